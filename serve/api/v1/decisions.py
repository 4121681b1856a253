"""What was decided and what decides: decisions by id, the served policies."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator

from data.attribution.join import attribute
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.policy.explanation.parts import TOP
from serve.api.v1 import csv_answers as tables
from serve.contracts.decisions import LoggedDecision, LoggedFeedback
from serve.contracts.explanations import DecisionExplanation
from serve.contracts.learning import PoliciesResponse
from serve.decisions.answer import list_items, policy_version
from serve.decisions.service import Service
from serve.explanations.service import Explanations
from serve.http.paths import refuse_nul


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()

    @routes.get("/decisions/{decision_id:rest}")
    async def decision(decision_id: Annotated[str, Path(max_length=320), AfterValidator(refuse_nul)]) -> LoggedDecision:
        """Return a decision with its feedback and what it has earned so far."""
        return await asyncio.to_thread(_describe_logged, service, decision_id)

    @routes.get("/policy", response_model=PoliciesResponse)
    async def policy(request: Request) -> PoliciesResponse | Response:
        """Say which policies answer, in which version, and since when; JSON, or CSV by `Accept`."""
        served = service.policies()
        if tables.is_wanted(request):
            return tables.policies(served)
        return PoliciesResponse(replica=service.replica, policies=served)

    return routes


def explaining(service: Service) -> APIRouter:
    """Return the route of explanations; it comes before those of decisions, whose ids may have slashes."""
    routes = APIRouter()
    explanations = Explanations(service.served, service.store, service.config.settings)

    @routes.get("/decisions/{decision_id:rest}/explanation")
    async def explanation(
        decision_id: Annotated[str, Path(max_length=320), AfterValidator(refuse_nul)],
        top: Annotated[int, Query(ge=1, le=1_000, description="contributions, and shares, listed of each item")] = TOP,
    ) -> DecisionExplanation:
        """Say why a decision showed what it showed, by the version of the policy that made it.

        Of each slot: what each feature adds to the score (base, contributions and others are the score and the error),
        what was uncertain, a tabular policy's rows, how the propensity came about, and which rules touched it. Where
        the version does not answer any more, it is made again from the log: a 503 `making_again` says that this takes
        longer, and who asks again goes on from there; a 409 `not_explainable` that it cannot be.
        """
        return await explanations.explain(decision_id, top)

    return routes


def _describe_logged(service: Service, decision_id: str) -> LoggedDecision:
    decision, feedback = service.read_decision(decision_id)
    return describe(decision, feedback, service.reward(decision))


def describe(decision: Decision, feedback: list[Feedback], spec: RewardSpec) -> LoggedDecision:
    """Return a decision as its route shows it."""
    outcome = attribute(decision, feedback, spec, datetime.now(UTC))
    return LoggedDecision(
        decision_id=decision.decision_id,
        time=decision.time,
        user_id=decision.user_id,
        node=decision.node_id,
        context=decision.context,
        candidates=decision.candidates,
        items=list_items(decision),
        rewards=list(outcome.rewards),
        policy=policy_version(decision),
        mode=decision.mode,
        objective=decision.objective,
        abtest=decision.abtest,
        variant=decision.variant,
        teams=decision.teams,
        closed=outcome.closed,
        feedback=[LoggedFeedback(**item.model_dump(include=set(LoggedFeedback.model_fields))) for item in feedback],
    )
