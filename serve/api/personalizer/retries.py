"""Whether a rank whose event id is known is a retry, or another rank by that name."""

from collections.abc import Sequence

from pydantic import JsonValue

from data.sameness import same
from data.schema import (
    Decision,
    FeatureObjects,
    Features,
    Slot,
)
from rl.encoders.visit import Visit
from serve.api.personalizer.errors import ERRORS
from serve.api.personalizer.rank import list_excluded


def find_differences(visit: Visit, decision: Decision) -> list[str]:
    """Return the fields of a rank in which a visit differs from the one that a decision was made for.

    What was said of an action that is excluded has no bearing on the decision, is not kept and does not count.
    """
    candidates, features = tuple(visit.candidates), visit.features or Features()
    held = decision.features or Features()
    excluded, held_excluded = list_excluded(visit.context), list_excluded(decision.context)
    one, other = _in_order(candidates, excluded), _in_order(decision.candidates, held_excluded)
    equal = {
        "contextFeatures": same(features.context, held.context),
        "actions": one == other and _agree(candidates, features.items, decision.candidates, held.items),
        "excludedActions": (
            excluded.keys() == held_excluded.keys()
            if one == other
            else {*excluded.values()} == {*held_excluded.values()}
        ),
        "slots": same(_to_json(visit.slots), _to_json(decision.slots)),
        "deferActivation": visit.deferred == decision.deferred,
    }
    return [name for name, is_so in equal.items() if not is_so]


def check_retry(visit: Visit, decision: Decision) -> None:
    """Check that a decision was made for a visit that has its name.

    Raises:
        Refused: it was made for another.
    """
    if fields := find_differences(visit, decision):
        message = f"EventId names another rank already, which differs in {', '.join(fields)}."
        raise ERRORS.refuse("EventIdConflict", message, "eventId")


def _in_order(candidates: Sequence[str], excluded: dict[str, str]) -> list[str]:
    """Return all actions in the order in which they were given."""
    actions = list(candidates)
    for place, action in excluded.items():
        actions.insert(int(place), action)
    return actions


def _agree(
    candidates: Sequence[str], items: Sequence[FeatureObjects], others: Sequence[str], held: Sequence[FeatureObjects]
) -> bool:
    """Return whether the features of each action that neither of two ranks excludes are the same."""
    ours, theirs = dict(zip(candidates, items, strict=False)), dict(zip(others, held, strict=False))
    return all(same(ours[action], theirs[action]) for action in ours.keys() & theirs.keys())


def _to_json(slots: Sequence[Slot]) -> JsonValue:
    return [slot.model_dump(mode="json") for slot in slots]
