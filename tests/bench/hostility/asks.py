"""What a probe sends, and what of its answer the service has promised to have in its log."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Promise: TypeAlias = tuple[str, str]
"""A table of the log (`decision`, `feedback`, `event`, `item`, `user`) and the id of a row that it now has."""


def nothing(_: Any) -> Iterable[Promise]:
    """Promise nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it goes over the wire."""

    method: str
    path: str
    """With its query, already percent-encoded."""
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    promises: Callable[[Any], Iterable[Promise]] = nothing
    """What an answer of 200 or 201 with this JSON promises."""


def post(path: str, body: Any, promises: Callable[[Any], Iterable[Promise]] = nothing, **headers: str) -> Ask:
    """Return a POST of JSON; what JSON has no word for (NaN, half characters) goes out as Python spells it."""
    return Ask("POST", path, spelled(body), {"content-type": "application/json", **headers}, promises)


def spelled(body: Any) -> bytes:
    """Return JSON as careless clients spell it."""
    return json.dumps(body).encode()


def recommend(body: Any, **headers: str) -> Ask:
    """Ask version 1 for one slate or a list of them."""
    return post("/v1/recommend", body, _decisions, **headers)


def feedback(body: Any) -> Ask:
    """Report to version 1."""
    return post("/v1/feedback", body, lambda got: [("feedback", row["feedback_id"]) for row in got["results"]
                                                  if row["status"] in ("stored", "known")])  # fmt: skip


def events(body: Any) -> Ask:
    """Send rows of a node."""
    return post("/v1/events", body, lambda got: [("event", row["event_id"]) for row in got["results"]
                                                if row["status"] in ("stored", "known")])  # fmt: skip


def items(body: Any) -> Ask:
    """Put items into the catalogue."""
    return post("/v1/items", body, lambda got: [("item", row["item_id"]) for row in got["results"]])


def rank(body: Any, path: str = "/personalizer/v1.0/rank") -> Ask:
    """Ask the Personalizer API."""
    return post(path, body, lambda got: [("decision", f"personalizer:{got['eventId']}")])


def _decisions(got: Any) -> Iterable[Promise]:
    return [("decision", one["decision_id"]) for one in (got if isinstance(got, list) else [got])]
