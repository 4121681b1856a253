"""Recommenders whose steps are spans: `encode`, from a visit to numbers, and `decide`, from these to a slate."""

from collections.abc import Sequence

import numpy as np
from opentelemetry.trace import Tracer

from rl.artefacts.artefact import Artefact
from rl.encoders.visit import Visit
from rl.policy.interface import Constraint, Policy
from rl.policy.interleaving import Draft
from rl.policy.queries import Query, Slates
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from serve.traces.spans import inner


class TracedRecommender(Recommender):
    """Decides as a recommender does."""

    def __init__(self, tracer: Tracer, router: Router, loop: str, objective: str) -> None:
        super().__init__(router, loop, objective)
        self._tracer = tracer

    def _encode(self, artefact: Artefact, visit: Visit) -> Query:
        with inner(self._tracer, "encode", self._about(visit)):
            return super()._encode(artefact, visit)

    def _choose(
        self,
        visit: Visit,
        policy: Policy,
        query: Query,
        k: int,
        rng: np.random.Generator,
        constraint: Constraint | None,
    ) -> Slates:
        with inner(self._tracer, "decide", self._about(visit)):
            return super()._choose(visit, policy, query, k, rng, constraint)

    def _evaluate(self, visit: Visit, policy: Policy, query: Query, positions: list[int]) -> Slates:
        with inner(self._tracer, "decide", self._about(visit)):
            return super()._evaluate(visit, policy, query, positions)

    def _draft(self, visit: Visit, policies: Sequence[Policy], queries: Sequence[Query]) -> Draft:
        with inner(self._tracer, "decide", self._about(visit)):
            return super()._draft(visit, policies, queries)

    def _about(self, visit: Visit) -> dict[str, str | int]:
        return {
            "raycommend.loop": self.loop,
            "raycommend.objective": self.objective,
            "raycommend.mode": visit.mode,
            "raycommend.candidates": len(visit.candidates),
            "raycommend.step": f"{self.fold_id}.{self.number}",
        }
