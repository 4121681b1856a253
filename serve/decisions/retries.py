"""Whether what has a known name is a retry, which is answered as the first time, or something else by that name.

Each function returns the fields in which the two differ, by the names that the client gave them; none: a retry. What
is in the log is never answered, only that it is not the same.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from data.feature_objects import FeatureError
from data.log.store import Store
from data.nodes.node import NodeSpec
from data.sameness import differing, digests, same
from data.schema import (
    CONTEXT_TIME,
    Decision,
    Event,
    Feedback,
)
from rl.policy.errors import PolicyError
from serve.contracts.decisions import RecommendRequest
from serve.contracts.errors import ERRORS, Refused

_DIGESTED = {"k", "candidates", "exclude", "filter", "rules", "policy"}
"""Fields of a request that its decision does not show."""
_LENGTH = "length"
"""Stands among the digests for how many requests one `Idempotency-Key` names."""
_OF_REPORT = ("decision_id", "item_id", "kind", "value", "time")


async def decide_or_repeat(
    decide: Callable[[], list[Decision]], names: Sequence[str | None], store: Store
) -> list[Decision]:
    """Decide, or where that cannot be done return what was decided before by the same names.

    So a retry is answered as the first time, even if by now it could not be answered any more.

    Raises:
        PolicyError, FeatureError, Refused: it cannot be decided, and not all names are known.
        StoreError: the log cannot be asked.
    """
    try:
        return decide()
    except (PolicyError, FeatureError, Refused):
        known = await asyncio.to_thread(store.decisions_by_id, {name for name in names if name})
        if not all(name in known for name in names):
            raise
        return [known[name] for name in names if name]


def digest_request(request: RecommendRequest, length: int | None = None) -> str:
    """Return the digests that a decision keeps of a request; see `Decision.request`.

    Args:
        request: what was asked.
        length: of the list that it is part of, where the list has one name.
    """
    fields = request.model_dump(mode="json", include=_DIGESTED, exclude_defaults=True)
    return digests(fields if length is None else fields | {_LENGTH: length})


def compare_request(request: RecommendRequest, decision: Decision, length: int | None = None) -> list[str]:
    """Compare a request with the decision that has its name."""
    context: dict[str, Any] = dict(decision.context)
    if CONTEXT_TIME not in request.context and context.get(CONTEXT_TIME) == decision.time.isoformat():
        del context[CONTEXT_TIME]  # it was not given then either
    shown = {
        "user_id": request.user_id == decision.user_id,
        "context": same(request.context, context),
        "objective": request.objective == decision.objective,
        # A variant of an A/B test may have had a mode of its own, in place of the default.
        "explore": decision.mode == ("explore" if request.explore else "exploit")
        or (decision.abtest is not None and request.explore),
        "node": request.node == decision.node_id,
    }
    fields = [name for name, equal in shown.items() if not equal]
    if decision.request is None:  # of an older version of the log, or imported
        return fields + _find_contradictions(request, decision)
    return fields + differing(digest_request(request, length), decision.request)


def _find_contradictions(request: RecommendRequest, decision: Decision) -> list[str]:
    """Return the fields that cannot have been the same, as far as the decision shows it."""
    pinned = (request.rules.pins if request.rules else None) or {}
    given = None if request.candidates is None else {*request.candidates, *pinned}
    broken = {
        "k": len(decision.slate) > request.k,
        "candidates": given is not None and not given.issuperset(decision.candidates),
        "exclude": not {*request.exclude}.isdisjoint(decision.candidates),
        "policy": request.policy not in (None, decision.policy),
    }
    return [name for name, is_so in broken.items() if is_so]


def compare_report(sent: Feedback, held: Feedback) -> list[str]:
    """Compare a report with the feedback that has its id."""
    return [name for name in _OF_REPORT if getattr(sent, name) != getattr(held, name)]


def compare_event(sent: Event, held: Event, node: NodeSpec) -> list[str]:
    """Compare a row with the event that has its id, column by column; what the scaler has made of them does not count.

    A column that the node's declaration has since the event was stored does not count either.
    """
    if node.with_role("key") is None:  # its id is that of its content
        return []
    columns = [(column.header, column.stored_name) for column in node.columns if column.role != "key"]
    one, other = ({**event.record, **event.model_dump(exclude={"record"})} for event in (sent, held))
    return [header for header, name in columns if name in one and name in other and not _equal(one[name], other[name])]


def _equal(one: Any, other: Any) -> bool:
    return same(to_jsonable_python(one), to_jsonable_python(other))


def conflict(what: str, fields: Sequence[str]) -> Refused:
    """Return the refusal of something that has the name of something else; `what` is the field that names it."""
    return ERRORS.refuse("conflict", f"{what} names something else already, which differs in {', '.join(fields)}", what)
