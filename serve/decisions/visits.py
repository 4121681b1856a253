"""From a request to the visit that is decided: what may be shown, and what is known for policies that read features."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from pydantic import JsonValue

from data.log.current import users
from data.log.current.catalogue_copy import Catalogue
from data.schema import CONTEXT_TIME, Features
from rl.encoders.visit import Visit
from serve.abtests.running import Answer
from serve.contracts.decisions import RecommendRequest
from serve.contracts.rules import BusinessRules
from serve.decisions.filters import select
from serve.decisions.recommender import Recommender

Past: TypeAlias = tuple[users.Past, Mapping[str, JsonValue]]
"""What a user has seen and bought, and the features that are kept of them."""


def make_visit(
    request: RecommendRequest,
    recommender: Recommender,
    policy: str,
    now: datetime,
    past: Past,
    catalogue: Catalogue,
    rules: BusinessRules,
) -> Visit:
    """Return the visit that a request is, among what a policy may show; it has no id and belongs to no A/B test yet.

    Raises:
        PolicyError, Refused: there is nothing to choose from.
    """
    happened, user = past
    selection = select(request, recommender.catalogue(policy), catalogue, rules, now, happened)
    reads = recommender.reads_features(policy)
    return Visit(
        user_id=request.user_id,
        time=now,
        candidates=selection.candidates,
        context=request.context,
        features=_features(request, selection.candidates, user, catalogue) if reads else None,
        k=request.k,
        policy=policy,
        mode="explore" if request.explore else "exploit",
        rules=selection.rules,
    )


def set_answer(visit: Visit, answer: Answer) -> None:
    """Say which variant of which test a visit is answered by; where that has a mode, it is the visit's.

    Of a request that wants no exploration the visit explores only where nobody sees it.
    """
    visit.abtest, visit.variant = answer.test, answer.variant
    if answer.mode == "exploit" or (answer.mode is not None and answer.unseen):
        visit.mode = answer.mode


def _features(
    request: RecommendRequest, candidates: Sequence[str], user: Mapping[str, JsonValue], catalogue: Catalogue
) -> Features:
    """Return what is known of a visit, its user and its candidates, for policies that learn from that."""
    context: dict[str, JsonValue] = {n: value for n, value in request.context.items() if n != CONTEXT_TIME}
    items = tuple((dict(catalogue.features_of(item)),) for item in candidates)
    return Features.model_construct(context=({"context": context, "user": dict(user)},), items=items)
