"""Lines of DSJSON that others have written, as decisions with their rewards: Vowpal Wabbit, Azure Personalizer.

Read as Vowpal Wabbit reads them: the label says what was chosen and what it cost, keys that begin with _ are no
features, `pdrop` is the share of such lines that was left out. What this log has no place for is refused by name.

Source: github.com/VowpalWabbit/vowpal_wabbit, vowpalwabbit/json_parser, and its wiki's page on DSJSON.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from pydantic_core import to_json

from data.errors import DataError
from data.formats.dsjson.values import (
    ITEM,
    Json,
    digest,
    parse_distribution,
    parse_flag,
    parse_id,
    parse_number,
    parse_objects,
    parse_probability,
    parse_time,
    unique,
)
from data.schema import (
    LOOP_V1,
    Decision,
    Features,
    Feedback,
    Slot,
)

REWARD = "reward"
"""The kind of feedback that a line's cost becomes; its value is the reward."""

Repeats: TypeAlias = Callable[[bytes], int]
"""Says how many lines equal to one there were before it."""

_POLICY = "dsjson"


def parse_decision(
    row: Json, raw: bytes, loop: str, time: datetime | None, repeats: Repeats
) -> tuple[Decision, list[Feedback]]:
    """Read a line that says what was decided.

    Args:
        row: the line.
        raw: its bytes, of which a line without an event id gets one.
        loop: which loop the decision is to belong to.
        time: when it was made, if the line does not say so.
        repeats: with the bytes it tells lines without an event id apart.

    Raises:
        DataError: it is none that can be read; says why. A ValidationError or a LookupError says the same of a part.
    """
    c = row["c"]
    _refuse_others(row, c)
    actions = c.get("_multi")
    if not isinstance(actions, list) or not actions or not all(isinstance(action, dict) for action in actions):
        raise DataError("c._multi must be a list of one action or more, each an object")
    outcomes = _outcomes(row, c)
    shown = [_place(outcome["_a"], len(actions)) for outcome in outcomes]
    candidates = unique([_id(action) for action in actions], first=shown)
    made = parse_time(row, "Timestamp", time)
    propensities = tuple(parse_probability(outcome["_p"], "the probability of what was chosen") for outcome in outcomes)
    decision = Decision(
        decision_id=_decision_id(_find_event_id(row, outcomes) or _digest_line(raw, repeats(raw)), loop),
        time=made,
        loop=loop,
        candidates=tuple(candidates),
        slate=tuple(candidates[place] for place in shown),
        propensities=propensities,
        scores=(0.0,) * len(shown),
        policy=_POLICY,
        policy_version=_version(row),
        deferred=_is_deferred(row, outcomes),
        weight=_weight(row),
        probabilities=() if "_slots" in c else parse_distribution(row, len(actions), shown[0], propensities[0]),
        features=Features(context=parse_objects(c), items=tuple(parse_objects(action) for action in actions)),
        slots=_slots(row, c, outcomes, candidates),
    )
    return decision, _rewards(decision, outcomes)


def parse_observation(row: Json, loop: str, time: datetime | None) -> list[Feedback]:
    """Read a line that has only a reward, of a decision that is in another line or in none.

    Raises:
        DataError: it has no event id, no reward, or no time.
    """
    event, received = _find_event_id(row, [{"_o": row.get("Observations")}]), parse_time(row, "EnqueuedTimeUtc", time)
    if event is None:
        raise DataError("it has a reward and no EventId: of what")
    observations = row.get("Observations") or []
    values = (
        [part.get("v") for part in observations if isinstance(part, dict)] if isinstance(observations, list) else []
    )
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not numbers:  # nothing was said one by one that is a reward
        numbers = [parse_number(row.get("RewardValue"), "RewardValue")]
    decision_id = _decision_id(event, loop)
    return [
        Feedback(
            feedback_id=f"{loop}:{digest(to_json([event, row.get('EnqueuedTimeUtc'), place, value]))}",
            decision_id=decision_id,
            loop=loop,
            kind=REWARD,
            value=parse_number(value, "v"),
            received_at=received,
        )
        for place, value in enumerate(numbers)
    ]


def _refuse_others(row: Json, c: Json) -> None:
    """Refuse what Vowpal Wabbit learns and this log has no place for."""
    if "_label_ca" in row or "pdf" in row or "_pdf" in row:
        raise DataError("it is of a continuous action (_label_ca, pdf), which is not read: actions are items here")
    actions = c.get("_multi")
    slates = isinstance(actions, list) and any(isinstance(action, dict) and "_slot_id" in action for action in actions)
    if slates or "slates" in (row.get("_type"), c.get("_type")):
        raise DataError(
            "it is of slates (actions with _slot_id), which are not read: they have one cost for all slots together, "
            "and a slot here has a reward of its own"
        )
    observed = row.get("o")
    if isinstance(observed, list) and any(isinstance(part, dict) and "_definitely_bad" in part for part in observed):
        raise DataError(
            "it is of interaction-grounded learning (o with _definitely_bad), which is not read: its label is no reward"
        )


def _outcomes(row: Json, c: Json) -> list[Json]:
    """Return what was chosen, one of each slot: `_a` and `_p` of the chosen action alone, its `_label_cost`."""
    if "_slots" not in c and "_outcomes" not in row:
        return [_label(row)]
    outcomes, slots = row.get("_outcomes"), c.get("_slots", [])
    if not isinstance(outcomes, list) or not all(isinstance(outcome, dict) for outcome in outcomes):
        raise DataError("it has slots and no _outcomes, a list of an object for each: what was chosen")
    if not isinstance(slots, list) or not all(isinstance(slot, dict) for slot in slots):
        raise DataError("c._slots must be a list of objects")
    if not outcomes:
        raise DataError("it has no slots: nothing was chosen")
    if "_slots" in c and len(slots) != len(outcomes):
        raise DataError(f"it has {len(slots)} slots and {len(outcomes)} outcomes")
    return [_first(outcome, place) for place, outcome in enumerate(outcomes)]


def _first(outcome: Json, place: int) -> Json:
    for name in ("_a", "_p", "_label_cost"):
        if name not in outcome or outcome[name] == []:
            raise DataError(f"_outcomes[{place}] has no {name}")
    chosen = {name: outcome[name][0] if isinstance(outcome[name], list) else outcome[name] for name in ("_a", "_p")}
    return outcome | chosen


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
    outcome = {"_a": position, "_p": row["_label_probability"], "_label_cost": row["_label_cost"]}
    return outcome | ({"_o": row["o"]} if "o" in row else {})


def _find_event_id(row: Json, outcomes: Sequence[Json]) -> str | None:
    """Return the id of a line's event: its own, or else the one that all of its observations name."""
    if (own := parse_id(row.get("EventId"))) is not None:
        return own
    named = {parse_id(part.get("EventId")) for part in _list_observations(outcomes)}
    return named.pop() if len(named) == 1 else None


def _list_observations(outcomes: Sequence[Json]) -> list[Json]:
    """Return the observations of a line's outcomes."""
    return [part for outcome in outcomes for part in outcome.get("_o") or () if isinstance(part, dict)]


def _digest_line(raw: bytes, nth: int) -> str:
    return digest(raw if nth == 0 else b"%d:%b" % (nth, raw))


def _decision_id(event: str, loop: str) -> str:
    return event if loop == LOOP_V1 else f"{loop}:{event}"


def _version(row: Json) -> str:
    state = row.get("VWState")
    return (parse_id(state.get("m")) if isinstance(state, dict) else None) or _POLICY


def _weight(row: Json) -> float:
    """Return how many lines a line stands for, as its `pdrop` is the share of those like it that was left out."""
    left_out = parse_number(row.get("pdrop", 0.0), "pdrop")
    if left_out == 1.0:
        raise DataError("its pdrop is 1: all such lines were left out, so it has no weight")
    if not 0.0 <= left_out < 1.0:
        raise DataError(f"pdrop must be in [0, 1), got {left_out}")
    return 1.0 / (1.0 - left_out)


def _is_deferred(row: Json, outcomes: Sequence[Json]) -> bool:
    """Return whether it was not certain to be shown, and is not known to have been."""
    if any(parse_flag(row, name) for name in ("_skipLearn", "_skip_learn")):
        return True
    if not any(parse_flag(row, name) for name in ("DeferredAction", "deferredAction", "_deferredAction")):
        return False
    return not any(part.get("ActionTaken") is True for part in _list_observations(outcomes))


def _place(position: Any, n: int) -> int:
    if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < n:
        raise DataError(f"the chosen action must be one of the {n} of c._multi, got index {position!r:.100}")
    return position


def _id(action: Json) -> str | None:
    """Return the id that an action has: `i.id`, or else its tag."""
    own = action.get(ITEM)
    named = parse_id(own.get("id")) if isinstance(own, dict) else None
    return named if named is not None else parse_id(action.get("_tag"))


def _slots(row: Json, c: Json, outcomes: Sequence[Json], candidates: Sequence[str]) -> tuple[Slot, ...]:
    slots = c.get("_slots", [])
    pairs = zip(slots, outcomes, strict=False)
    ids = [parse_id(slot.get("_id")) or parse_id(outcome.get("_id")) for slot, outcome in pairs]
    names = unique([name or str(place) for place, name in enumerate(ids)], first=())
    return tuple(
        Slot(
            slot_id=name,
            features=parse_objects(slot),
            exclude=_find_exclusions(slot, candidates),
            baseline=_baseline(row.get("_ba"), place, candidates),
        )
        for place, (name, slot) in enumerate(zip(names, slots, strict=True))
    )


def _find_exclusions(slot: Json, candidates: Sequence[str]) -> tuple[str, ...]:
    """Return what a slot may not show, where the line names all that it may."""
    included = slot.get("_inc")
    if not isinstance(included, list) or not included:
        return ()
    may = {_place(place, len(candidates)) for place in included}
    return tuple(name for place, name in enumerate(candidates) if place not in may)


def _baseline(baselines: Any, slot: int, candidates: Sequence[str]) -> str | None:
    if not isinstance(baselines, list) or slot >= len(baselines):
        return None
    return candidates[_place(baselines[slot], len(candidates))]


def _rewards(decision: Decision, outcomes: Sequence[Json]) -> list[Feedback]:
    """Return a reward for each slot that something was observed of, named as `data.attribution.join` has it."""
    names = [slot.slot_id for slot in decision.slots] or decision.slate
    costs = [parse_number(outcome["_label_cost"], "_label_cost") for outcome in outcomes]
    return [
        Feedback(
            feedback_id=f"{decision.decision_id}:{place}",
            decision_id=decision.decision_id,
            loop=decision.loop,
            item_id=name,
            kind=REWARD,
            value=0.0 - cost,  # never -0
            received_at=decision.time,
        )
        for place, (name, cost, outcome) in enumerate(zip(names, costs, outcomes, strict=True))
        if outcome.get("_o", True) or cost
    ]
