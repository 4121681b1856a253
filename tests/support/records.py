"""Records by hand, as tests of the log write them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from data.schema import Decision, Event, Version
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


def version(as_of: datetime = NOON, **fields: Any) -> Version:
    """Return the beginning of a fold."""
    usual: dict[str, Any] = {"loop": "v1", "objective": "default", "fold_id": "v", "number": 0}
    usual |= {"version_id": "v.0", "decision_seq": 1, "feedback_seq": 2, "caught_up": True}
    return Version(as_of=as_of, **usual | fields)


SALE: Mapping[str, Any] = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": "LANTERN",
    "Quantity": 6,
    "InvoiceDate": "2010-12-01T08:26:00",
    "UnitPrice": 2.55,
    "CustomerID": 17850,
    "Country": "United Kingdom",
}
"""A row of the node online_retail that breaks no rule."""
