"""Records by hand, as tests of the log write them."""

from typing import Any

from data.schema import Decision, Event
from tests.support.clocks import NOON

FORGOTTEN = "user-to-forget-4711"


def decision(decision_id: str, user_id: str | None = FORGOTTEN, slate: str = "ab", **fields: Any) -> Decision:
    """Return a decision whose candidates are its slate, an item a letter."""
    n = len(slate)
    usual: dict[str, Any] = {
        "time": NOON,
        "candidates": tuple(slate),
        "slate": tuple(slate),
        "propensities": (0.5,) * n,
        "scores": (0.25,) * n,
        "policy": "p",
        "policy_version": "v",
    }
    return Decision(decision_id=decision_id, user_id=user_id, **usual | fields)


def event(event_id: str, user_id: str | None = FORGOTTEN, item_id: str = "x", **fields: Any) -> Event:
    """Return an event of the node that ships."""
    return Event(node_id="online_retail", event_id=event_id, user_id=user_id, item_id=item_id, **fields)
