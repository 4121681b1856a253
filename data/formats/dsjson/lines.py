"""DSJSON, the log format of Vowpal Wabbit and of Azure Personalizer: decisions and rewards as lines, and back.

A line is one decision with what it earned. One with slots, or with a slate of several items, is a line of a
conditional contextual bandit (`_slots` and `_outcomes`). Lines written here also hold, under a key that VW skips, what
DSJSON has no place for, so that what is read back is what was written.

Source: github.com/VowpalWabbit/vowpal_wabbit/wiki/DSJSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import JsonValue, ValidationError
from pydantic_core import from_json, to_json

from data.attribution.join import Outcome
from data.errors import DataError, reason
from data.fields import is_id
from data.formats.dsjson.features import check_features, make_readable
from data.formats.dsjson.foreign import Repeats, parse_decision, parse_observation
from data.formats.dsjson.values import (
    CONTEXT,
    FEATURES,
    ITEM,
    Json,
)
from data.schema import (
    CONTEXT_TIME,
    Decision,
    Feedback,
)

_OWN = "raycommend"


@dataclass(frozen=True, slots=True)
class Line:
    """What a line holds."""

    decision: Decision | None
    """None: it has feedback only."""
    feedback: tuple[Feedback, ...]
    """In log order, each with the time at which it was received."""


def to_line(outcome: Outcome, feedback: Sequence[Feedback]) -> str:
    """Write a decision with what it earned.

    Args:
        outcome: the decision with the rewards to write.
        feedback: all of its feedback, in log order.
    """
    decision = outcome.decision
    row: Json = {
        "Timestamp": decision.time.isoformat().replace("+00:00", "Z"),
        "Version": "1",
        "EventId": decision.decision_id.removeprefix(f"{decision.loop}:"),
    }
    actions = {"_multi": [_action(decision, place) for place in range(len(decision.candidates))]}
    positions = [decision.candidates.index(item) for item in decision.slate]
    observed = [{"v": item.value, "EventId": row["EventId"]} for item in feedback]
    if decision.slots or len(decision.slate) != 1:
        slots = [_to_namespace(slot.features) for slot in decision.slots] or [{} for _ in decision.slate]
        row["c"] = _to_namespace(_context(decision), CONTEXT) | actions | {"_slots": slots}
        names = [slot.slot_id for slot in decision.slots] or [str(place) for place in range(len(slots))]
        seen = len(outcome.rewards)  # of slots below nothing is known
        shown = zip(names[:seen], outcome.rewards, positions[:seen], decision.propensities[:seen], strict=True)
        row["_outcomes"] = [
            {"_id": name, "_label_cost": _cost(reward), "_a": [position], "_p": [p], "_o": []}
            for name, reward, position, p in shown
        ]
    else:
        row |= _label_choice(decision, positions[0], outcome.reward) | {"o": observed}
        row["c"] = _to_namespace(_context(decision), CONTEXT) | actions
    if decision.weight != 1.0:
        row["pdrop"] = 1.0 - 1.0 / decision.weight
    row["VWState"] = {"m": decision.policy_version}
    row[_OWN] = _as_said(decision) | {
        "decision": decision.model_dump(mode="json", exclude={"features"}, exclude_defaults=True),
        "described": decision.features and len(decision.features.items),
        "feedback": [item.model_dump(mode="json", exclude_defaults=True) for item in feedback],
    }
    return to_json(row).decode()


def _as_said(decision: Decision) -> Json:
    """Return the features if the line cannot have them as they were said."""
    said = decision.features
    if said is None or all(make_readable(part) == list(part) for part in (said.context, *said.items)):
        return {}
    return {"features": said.model_dump(mode="json")}


def _cost(reward: float) -> float:
    return 0.0 - reward  # never -0


def _label_choice(decision: Decision, position: int, reward: float) -> Json:
    """Return the label, and actions and probabilities with the chosen one first.

    Where the distribution was not kept, what the chosen item leaves is spread evenly: the label has its exact part.
    """
    n, p = len(decision.candidates), decision.propensities[0]
    others = [place for place in range(n) if place != position]
    spread = decision.probabilities or [(1 - p) / max(n - 1, 1)] * n
    return {
        "_label_cost": _cost(reward),
        "_label_probability": p,
        "_label_Action": position + 1,
        "_labelIndex": position,
        "a": [place + 1 for place in (position, *others)],
        "p": [p, *(spread[place] for place in others)],
    }


def _context(decision: Decision) -> Sequence[Mapping[str, JsonValue]]:
    if decision.features is not None:
        return decision.features.context
    return [{name: value for name, value in decision.context.items() if name != CONTEXT_TIME}]


def _action(decision: Decision, place: int) -> Json:
    described = decision.features.items if decision.features is not None else ()
    own = {ITEM: {"id": decision.candidates[place]}}
    return own | _to_namespace(described[place] if described else ())


def _to_namespace(described: Sequence[Mapping[str, JsonValue]], namespace: str = FEATURES) -> Json:
    return {namespace: make_readable(described)} if described else {}


def from_line(
    text: str | bytes, loop: str = "personalizer", time: datetime | None = None, repeats: Repeats = lambda _: 0
) -> Line | None:
    """Read a line that this, Personalizer or VW has written; None if it is a checkpoint, which says nothing.

    Of others' lines the actions' ids are `i.id`, or their tags, or else their numbers from 1; a cost is feedback of
    kind `reward`, received when the decision was made. A line with a reward only is feedback of a decision elsewhere.

    Args:
        text: the line.
        loop: which loop others' lines are to belong to.
        time: when it was, if the line does not say so.
        repeats: lines without an event id get one from their content and from how many equal ones came before.

    Raises:
        DataError: it is no such line; says what is wrong.
    """
    raw = text.encode() if isinstance(text, str) else text
    if raw[:11].lower() == b"[checkpoint":
        return None
    try:
        row = from_json(raw)
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from error
    try:
        line = _read_line(row, raw, loop, time, repeats)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'decision'}: {reason(fault)}" for fault in error.errors()]
        raise DataError("; ".join(faults)) from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"a part is missing or of another type: {type(error).__name__} {error}") from error
    try:
        for record in (line.decision, *line.feedback) if line else ():
            if record is not None:
                _check_ids(record)
    except ValueError as error:
        raise DataError(str(error)) from error
    return line


def _read_line(row: Any, raw: bytes, loop: str, time: datetime | None, repeats: Repeats) -> Line | None:
    if isinstance(row, dict) and not isinstance(row.get("c"), dict):
        if "RewardValue" in row or "Observations" in row:
            return Line(None, tuple(parse_observation(row, loop, time)))
        if any(name.startswith("checkpoint") for name in row):
            return None
    if not isinstance(row, dict) or not isinstance(row.get("c"), dict):
        raise DataError("not DSJSON: a line is an object with the decision's features in an object 'c'")
    own = isinstance(row.get(_OWN), dict)
    decision, feedback = _read_own(row) if own else parse_decision(row, raw, loop, time, repeats)
    check_features(decision)
    return Line(decision, tuple(feedback))


def _read_own(row: Json) -> tuple[Decision, list[Feedback]]:
    kept, c = row[_OWN], row["c"]
    features: Json | None = kept.get("features")
    if features is None and kept["described"] is not None:
        items = [action.get(FEATURES, []) for action in c["_multi"]] if kept["described"] else []
        features = {"context": c.get(CONTEXT, []), "items": items}
    decision = Decision.model_validate(kept["decision"] | {"features": features})
    return decision, [Feedback.model_validate(item) for item in kept["feedback"]]


def _check_ids(record: Decision | Feedback) -> None:
    """Check the ids of a record that was made elsewhere, as an `Id` is checked.

    Raises:
        ValueError: one has a line break or another control character.
    """
    if isinstance(record, Decision):
        ids = {"decision": record.decision_id, "user": record.user_id, "node": record.node_id}
        ids |= {f"candidate {place}": item for place, item in enumerate(record.candidates)}
        ids |= {f"slot {place}": slot.slot_id for place, slot in enumerate(record.slots)}
    else:
        ids = {"decision": record.decision_id, "feedback": record.feedback_id, "item": record.item_id}
    for name, given in ids.items():
        if given is not None and not is_id(given):
            raise ValueError(f"the id of {name}, {given[:80]!r}, has a line break or another control character")
