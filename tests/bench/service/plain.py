"""What one would write without Ray: `uvicorn --factory tests.bench.service.plain:app`, told by the environment.

The same recommender, request and response models, and the same store and writer; no learner, no other routes.
"""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from data.log.store import Store
from data.schema import Decision
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load_served
from rl.encoders.visit import Visit
from rl.online.fold import Publication
from rl.online.history.histories import Histories
from rl.policies import TransformerConfig
from serve.contracts.decisions import PolicyVersion, RecommendedItem, RecommendRequest, RecommendResponse
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from tests.bench.service.group_commit import GroupCommit

HOME, COMMIT, POLICY = "BENCH_HOME", "BENCH_COMMIT", "BENCH_POLICY"
"""The environment's names: folder of the policies and the log, whether to write (1 or 0), the policy's name."""


def app() -> FastAPI:
    """Build the application."""
    settings = Settings(home=Path(os.environ[HOME]), store=None, archive=None)
    name, commit = os.environ[POLICY], os.environ[COMMIT] == "1"
    threadpool_limits(1)
    store = Store.open(settings.store_url)
    artefact = loaded(settings.home / "policies" / name)
    histories = Histories(artefact.history) if artefact.history else None
    if histories:
        for _, shown in store.decisions():
            histories.add_slate(shown.user_id or "", shown.decision_id, shown.slate)
    recommender = Recommender(Router({name: 1.0}))
    recommender.restore(Publication("plain", 0, 0, {name: artefact}, histories))
    writer = GroupCommit(store)

    api = FastAPI()

    @api.post("/v1/recommend")
    async def recommend(request: RecommendRequest) -> RecommendResponse:
        decision = recommender.decide(
            Visit(
                user_id=request.user_id,
                time=datetime.now(UTC),
                candidates=artefact.encoder.items if request.candidates is None else request.candidates,
                context=request.context,
                decision_id=request.decision_id or uuid4().hex,
                k=request.k,
            )
        )
        if commit:
            [stored] = await writer.commit([decision])
            assert isinstance(stored.record, Decision)
            decision = stored.record
        if histories and decision.user_id:
            histories.add_slate(decision.user_id, decision.decision_id, decision.slate)
        slots = zip(decision.slate, decision.scores, decision.propensities, strict=True)
        return RecommendResponse(
            decision_id=decision.decision_id,
            items=[RecommendedItem(item_id=item, score=score, propensity=p) for item, score, p in slots],
            policy=PolicyVersion(name=decision.policy, version=decision.policy_version),
            learned_through=recommender.learned_through,
        )

    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return api


def loaded(folder: Path) -> Artefact:
    """Load a policy as it is; a transformer is computed by torch, on one thread, its tables once."""
    artefact = load_served(folder)
    if artefact.history:
        import torch

        from rl.policies.transformer.policy import TransformerPolicy

        torch.set_num_threads(1)
        assert isinstance(artefact.policy, TransformerPolicy)
        assert isinstance(artefact.config, TransformerConfig)
        quickest = TransformerPolicy(artefact.policy.network, artefact.config.explorer, frozen=True)
        return replace(artefact, policy=quickest)
    return artefact
