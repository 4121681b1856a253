"""DSJSON, the log format of Vowpal Wabbit and of Azure Personalizer: decisions and rewards as lines, and back. No Ray.

A line is one decision with what it earned. One with slots, or with a slate of several items, is a line of a
conditional contextual bandit (`_slots` and `_outcomes`). Lines written here also hold, under a key that VW skips, what
DSJSON has no place for, so that what is read back is what was written.

Source: github.com/VowpalWabbit/vowpal_wabbit/wiki/DSJSON.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue, ValidationError
from pydantic_core import from_json, to_json

from data.attribution import Outcome
from data.errors import DataError
from data.schema import CONTEXT_TIME, Decision, Described, Features, Feedback, Slot
from data.sources.dsjson_features import check_features, readable

CONTEXT, ITEM, FEATURES = "FromUrl", "i", "j"
"""Namespaces of a context's features, an item's id and an item's or a slot's features."""
REWARD = "reward"
"""The kind of feedback that a line's cost becomes; its value is the reward."""
_OWN = "raycommend"
_LINE_POLICY = "dsjson"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """What a line holds."""

    decision: Decision
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
        slots = [_described(slot.features) for slot in decision.slots] or [{} for _ in decision.slate]
        row["c"] = _described(_context(decision), CONTEXT) | actions | {"_slots": slots}
        names = [slot.slot_id for slot in decision.slots] or [str(place) for place in range(len(slots))]
        shown = zip(names, outcome.rewards, positions, decision.propensities, strict=True)
        row["_outcomes"] = [
            {"_id": name, "_label_cost": _cost(reward), "_a": [position], "_p": [p], "_o": []}
            for name, reward, position, p in shown
        ]
    else:
        row |= _chosen(decision, positions[0], outcome.reward) | {"o": observed}
        row["c"] = _described(_context(decision), CONTEXT) | actions
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
    if said is None or all(readable(part) == list(part) for part in (said.context, *said.items)):
        return {}
    return {"features": said.model_dump(mode="json")}


def _cost(reward: float) -> float:
    return 0.0 - reward  # never -0


def _chosen(decision: Decision, position: int, reward: float) -> Json:
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
    return own | _described(described[place] if described else ())


def _described(described: Sequence[Mapping[str, JsonValue]], namespace: str = FEATURES) -> Json:
    return {namespace: readable(described)} if described else {}


def from_line(text: str | bytes, loop: str = "personalizer") -> Line:
    """Read a line that this, Personalizer or VW has written.

    Of others' lines the actions' ids are `i.id`, or their tags, or else their numbers from 1; a cost is feedback of
    kind `reward`, received when the decision was made. Lines without an event id get one from their content.

    Raises:
        DataError: it is no such line; says what is wrong.
    """
    try:
        row = from_json(text)
    except ValueError as error:
        raise DataError(f"not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("c"), dict):
        raise DataError("not DSJSON: a line is an object with the decision's features in an object 'c'")
    try:
        line = _own(row) if isinstance(row.get(_OWN), dict) else _foreign(row, text, loop)
        check_features(line.decision)
        return line
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or 'decision'}: {fault['msg']}" for fault in error.errors()]
        raise DataError("; ".join(faults)) from error
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"a part is missing or of another type: {type(error).__name__} {error}") from error


def _own(row: Json) -> Line:
    kept, c = row[_OWN], row["c"]
    features: Json | None = kept.get("features")
    if features is None and kept["described"] is not None:
        items = [action.get(FEATURES, []) for action in c["_multi"]] if kept["described"] else []
        features = {"context": c.get(CONTEXT, []), "items": items}
    decision = Decision.model_validate(kept["decision"] | {"features": features})
    return Line(decision, tuple(Feedback.model_validate(item) for item in kept["feedback"]))


def _foreign(row: Json, text: str | bytes, loop: str) -> Line:
    c = row["c"]
    actions = c.get("_multi")
    if not isinstance(actions, list) or not actions or not all(isinstance(action, dict) for action in actions):
        raise DataError("c._multi must be a list of one action or more, each an object")
    if "Timestamp" not in row:
        raise DataError("it has no Timestamp: when the decision was made")
    raw = text.encode() if isinstance(text, str) else text
    event = row.get("EventId") or hashlib.blake2b(raw, digest_size=16).hexdigest()
    decision_id = event if loop == "v1" else f"{loop}:{event}"
    outcomes = row["_outcomes"] if "_slots" in c or "_outcomes" in row else [_label(row)]
    if not outcomes:
        raise DataError("it has no slots: nothing was chosen")
    candidates = [_item_id(action, place) for place, action in enumerate(actions)]
    if len(set(candidates)) < len(candidates):
        raise DataError("two actions of c._multi have the same id")
    shown = [_place(outcome["_a"][0], len(actions)) for outcome in outcomes]
    decision = Decision(
        decision_id=decision_id,
        time=row["Timestamp"],
        loop=loop,
        candidates=tuple(candidates),
        slate=tuple(candidates[place] for place in shown),
        propensities=tuple(outcome["_p"][0] for outcome in outcomes),
        scores=(0.0,) * len(shown),
        policy=_LINE_POLICY,
        policy_version=str(row.get("VWState", {}).get("m") or _LINE_POLICY),
        deferred=bool(row.get("_skipLearn", False)),
        probabilities=() if "_slots" in c else _probabilities(row, len(actions)),
        features=Features(context=_objects(c), items=tuple(_objects(action) for action in actions)),
        slots=tuple(_slot(slot, o, place) for place, (slot, o) in enumerate(_slots(c, outcomes))),
    )
    return Line(decision, tuple(_feedback(decision, outcomes)))


def _label(row: Json) -> Json:
    """Return the label of a line without slots in the form of an outcome of one with slots."""
    if "_labelIndex" in row:
        position = row["_labelIndex"]
    elif "_label_Action" in row:
        position = row["_label_Action"] - 1
    else:
        raise DataError("it has no label: neither _labelIndex nor _label_Action")
    for name in ("_label_cost", "_label_probability"):
        if name not in row:
            raise DataError(f"its label has no {name}")
    outcome = {"_a": [position], "_p": [row["_label_probability"]], "_label_cost": row["_label_cost"]}
    return outcome | ({"_o": row["o"]} if "o" in row else {})


def _place(position: Any, n: int) -> int:
    if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < n:
        raise DataError(f"the chosen action must be one of the {n} of c._multi, got index {position!r}")
    return position


def _item_id(action: Json, place: int) -> str:
    own = action.get(ITEM)
    named = own.get("id") if isinstance(own, dict) else None
    return str(named or action.get("_tag") or place + 1)


def _objects(part: Json) -> Described:
    """Return the features of a context, an action or a slot as objects; an item's id is none of them."""
    found: list[dict[str, JsonValue]] = []
    for name, value in part.items():
        if name.startswith("_"):
            continue
        if name == ITEM and isinstance(value, dict):
            value = {key: inner for key, inner in value.items() if key not in ("id", "constant")}
            found += [{name: value}] if value else []
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            found += value if name in (CONTEXT, FEATURES) else [{name: entry} for entry in value]
        elif value != []:
            found.append({name: value})
    return tuple(found)


def _probabilities(row: Json, n: int) -> tuple[float, ...]:
    """Return the distribution over the actions in the order of `c._multi`; none where the line has no whole one."""
    a, p = row.get("a"), row.get("p")
    if not isinstance(a, list) or not isinstance(p, list) or sorted(a) != list(range(1, n + 1)) or len(p) != n:
        return ()
    of_action = dict(zip(a, p, strict=True))
    return tuple(float(of_action[place + 1]) for place in range(n))


def _slots(c: Json, outcomes: Sequence[Json]) -> list[tuple[Json, Json]]:
    if "_slots" not in c:
        return []
    if len(c["_slots"]) != len(outcomes):
        raise DataError(f"it has {len(c['_slots'])} slots and {len(outcomes)} outcomes")
    return list(zip(c["_slots"], outcomes, strict=True))


def _slot(slot: Json, outcome: Json, place: int) -> Slot:
    return Slot(slot_id=str(outcome.get("_id") or place), features=_objects(slot))


def _feedback(decision: Decision, outcomes: Sequence[Json]) -> list[Feedback]:
    """Return a reward for each slot that something was observed of, named as `data.attribution` has it."""
    names = [slot.slot_id for slot in decision.slots] or decision.slate
    return [
        Feedback(
            feedback_id=f"{decision.decision_id}:{place}",
            decision_id=decision.decision_id,
            loop=decision.loop,
            item_id=name,
            kind=REWARD,
            value=_cost(outcome["_label_cost"]),
            received_at=decision.time,
        )
        for place, (name, outcome) in enumerate(zip(names, outcomes, strict=True))
        if outcome.get("_o", True) or outcome["_label_cost"]
    ]
