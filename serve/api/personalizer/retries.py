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
from serve.api.personalizer.errors import ERRORS
from serve.api.personalizer.rank import excluded_of
from serve.decisions.recommender import Ask


def differing(ask: Ask, decision: Decision) -> list[str]:
    """Return the fields of a rank in which an ask differs from the one that a decision was the answer to.

    What was said of an action that is excluded has no bearing on the decision, is not kept and does not count.
    """
    candidates, features = tuple(ask.candidates or ()), ask.features or Features()
    held = decision.features or Features()
    out, held_out = excluded_of(ask.context), excluded_of(decision.context)
    one, other = _in_order(candidates, out), _in_order(decision.candidates, held_out)
    equal = {
        "contextFeatures": same(features.context, held.context),
        "actions": one == other and _agree(candidates, features.items, decision.candidates, held.items),
        "excludedActions": out.keys() == held_out.keys() if one == other else {*out.values()} == {*held_out.values()},
        "slots": same(_told(ask.slots), _told(decision.slots)),
        "deferActivation": ask.deferred == decision.deferred,
    }
    return [name for name, is_so in equal.items() if not is_so]


def check(ask: Ask, decision: Decision) -> None:
    """Check that a decision was made for an ask that has its name.

    Raises:
        Refused: it was made for another.
    """
    if fields := differing(ask, decision):
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
    """Say whether the same is said of each action that neither of two ranks excludes."""
    told, said = dict(zip(candidates, items, strict=False)), dict(zip(others, held, strict=False))
    return all(same(told[action], said[action]) for action in told.keys() & said.keys())


def _told(slots: Sequence[Slot]) -> JsonValue:
    return [slot.model_dump(mode="json") for slot in slots]
