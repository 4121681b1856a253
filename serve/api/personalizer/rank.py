"""Rank: the bodies of requests and responses, the visit that a request is, and the response that a decision makes.

A rank is a decision of the loop "personalizer". Actions are its candidates, in their order, without the excluded ones;
these stand in the context, as a repeated request is answered from the log with all that it was answered with first.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import from_json, to_json

from data.feature_objects import FeatureObjectList
from data.fields import Scalar, is_id
from data.schema import (
    Decision,
    FeatureObjects,
    Features,
    Mode,
    Slot,
)
from rl.encoders.visit import Visit
from rl.policy.explanation.parts import Explanation
from serve.api.personalizer.configuration.values import LOOP, LearningMode
from serve.api.personalizer.errors import ERRORS
from serve.api.personalizer.explaining import ActionExplanation, explain_action

MAX_ACTIONS: Final = 1_000
MAX_ID: Final = 256
NO_CONTROLS: Final = "should have no line breaks or other control characters."
_EXCLUDED = "excluded"  # of the context: positions of the excluded actions, as JSON
_MODES: Mapping[LearningMode, Mode] = {"Online": "explore", "Apprentice": "apprentice", "LoggingOnly": "log"}


class _Body(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class RankableAction(_Body):
    """What may be shown."""

    id: str
    features: FeatureObjectList


class RankRequest(_Body):
    """Which action to show in which context."""

    actions: list[RankableAction]
    """In the order in which they would be shown without us: the first that is not excluded is the baseline."""
    context_features: FeatureObjectList | None = None
    excluded_actions: list[str] | None = None
    event_id: str | None = None
    defer_activation: bool | None = None


class SlotRequest(_Body):
    """A place that an action is shown in."""

    id: str
    baseline_action: str
    features: FeatureObjectList | None = None
    excluded_actions: list[str] | None = None


class MultiSlotRankRequest(_Body):
    """Which action to show in which slot."""

    actions: list[RankableAction]
    slots: list[SlotRequest]
    context_features: FeatureObjectList | None = None
    event_id: str | None = None
    defer_activation: bool | None = None


class RankedAction(BaseModel):
    """An action with its probability."""

    model_config = ConfigDict(frozen=True)
    id: str
    probability: float


class RankResponse(_Body):
    """What to show."""

    ranking: list[RankedAction]
    """The chosen action, then the others by falling probability; excluded ones keep their places, with 0."""
    event_id: str
    reward_action_id: str
    inference_explanation: list[ActionExplanation] | None = None
    """Of each action that was not excluded, in the order of the ranking; where explanations are switched on."""


class SlotResponse(_Body):
    """What to show in a slot."""

    id: str
    reward_action_id: str
    probability: Annotated[float, Field(description="of this action here, given the slots before; an extension")]


class MultiSlotRankResponse(_Body):
    """What to show where."""

    slots: list[SlotResponse]
    event_id: str


def to_decision_id(event_id: str) -> str:
    """Return the id of an event's decision."""
    return f"{LOOP}:{event_id}"


def to_visit(request: RankRequest, mode: LearningMode, now: datetime) -> Visit:
    """Return the visit that a request is for.

    Raises:
        Refused: the request is not valid.
    """
    _check_actions(request.actions)
    event_id = _event_id(request.event_id)
    excluded = set(request.excluded_actions or ())
    actions = [action for action in request.actions if action.id not in excluded]
    if not actions:
        message = f"All of the {len(request.actions)} actions are excluded: leave at least one."
        raise ERRORS.refuse("InvalidRankRequest", message, "excludedActions")
    out = {str(place): action.id for place, action in enumerate(request.actions) if action.id in excluded}
    return Visit(
        user_id=None,
        time=now,
        candidates=[action.id for action in actions],
        context={_EXCLUDED: to_json(out).decode()} if out else {},
        features=_features(request.context_features, actions),
        decision_id=to_decision_id(event_id),
        mode=_MODES[mode],
        deferred=bool(request.defer_activation),
        log_probabilities=True,
    )


def to_slots_visit(request: MultiSlotRankRequest, mode: LearningMode, now: datetime) -> Visit:
    """Return the visit that a request with slots is for.

    Raises:
        Refused: the request is not valid.
    """
    _check_actions(request.actions)
    _check_slots(request)
    slots = tuple(
        Slot.model_construct(
            slot_id=slot.id,
            features=_without_empty(slot.features),
            exclude=tuple(slot.excluded_actions or ()),
            baseline=slot.baseline_action,
        )
        for slot in request.slots
    )
    return Visit(
        user_id=None,
        time=now,
        candidates=[action.id for action in request.actions],
        features=_features(request.context_features, request.actions),
        decision_id=to_decision_id(_event_id(request.event_id)),
        k=len(slots),
        mode=_MODES[mode],
        slots=slots,
        deferred=bool(request.defer_activation),
        log_probabilities=True,
    )


def respond(decision: Decision, explained: Explanation | None = None) -> RankResponse:
    """Return the response to a rank, with an explanation of all candidates where there is one."""
    chosen, p = decision.candidates.index(decision.slate[0]), decision.probabilities
    order = sorted(range(len(p)), key=lambda place: -p[place])
    at = order.index(chosen)
    order[0], order[at] = chosen, order[0]
    ranking = [RankedAction.model_construct(id=decision.candidates[i], probability=p[i]) for i in order]
    # In their order, so that each comes to stand at its own place.
    for place, action in list_excluded(decision.context).items():
        ranking.insert(int(place), RankedAction.model_construct(id=action, probability=0.0))
    explanation = (
        None if explained is None else [explain_action(decision.candidates[i], explained.items[i]) for i in order]
    )
    return RankResponse.model_construct(
        ranking=ranking,
        event_id=to_event_id(decision),
        reward_action_id=decision.slate[0],
        inference_explanation=explanation,
    )


def respond_with_slots(decision: Decision) -> MultiSlotRankResponse:
    """Return the response to a rank of slots."""
    shown = zip(decision.slots, decision.slate, decision.propensities, strict=True)
    slots = [SlotResponse.model_construct(id=s.slot_id, reward_action_id=i, probability=p) for s, i, p in shown]
    return MultiSlotRankResponse.model_construct(slots=slots, event_id=to_event_id(decision))


def list_excluded(context: Mapping[str, Scalar]) -> dict[str, str]:
    """Return the excluded actions that a decision's context names, by their places in ascending order."""
    out: dict[str, str] = from_json(str(context.get(_EXCLUDED, "{}")))
    return out


def to_event_id(decision: Decision) -> str:
    """Return the event's id."""
    return decision.decision_id.removeprefix(f"{LOOP}:")


def _event_id(given: str | None) -> str:
    if given is None:
        return uuid4().hex
    if not given:
        raise ERRORS.refuse("InvalidRankRequest", "EventId should be non-empty or null.", "eventId")
    if len(given) > MAX_ID:
        raise ERRORS.refuse("InvalidRankRequest", f"EventId should have at most {MAX_ID} characters.", "eventId")
    _check_characters("EventId", given, "eventId")
    return given


def _check_characters(what: str, given: str, where: str) -> None:
    if not is_id(given):
        raise ERRORS.refuse("InvalidRankRequest", f"{what} {NO_CONTROLS}", where)


def _check_actions(actions: Sequence[RankableAction]) -> None:
    if not 1 <= len(actions) <= MAX_ACTIONS:
        raise ERRORS.refuse("InvalidRankRequest", f"Action count should be between 1 and {MAX_ACTIONS}.", "actions")
    for place, action in enumerate(actions):
        if not action.id:
            raise ERRORS.refuse("InvalidRankRequest", "Action ids must not be empty.", f"actions[{place}].id")
        if len(action.id) > MAX_ID:
            message = f"Action ids must have at most {MAX_ID} characters."
            raise ERRORS.refuse("InvalidRankRequest", message, f"actions[{place}].id")
        _check_characters("Action ids", action.id, f"actions[{place}].id")
        if not any(value is not None for part in action.features if part for value in part.values()):
            message = "Every action should have at least one non-null action feature."
            raise ERRORS.refuse("InvalidRankRequest", message, f"actions[{place}].features")
    _check_unique((action.id for action in actions), "Action ids must be unique.", "actions")


def _check_slots(request: MultiSlotRankRequest) -> None:
    if not 1 <= len(request.slots) <= len(request.actions):
        message = "Slots count should be between 1 and the number of actions"
        raise ERRORS.refuse("InvalidRankRequest", message, "slots")
    actions = {action.id for action in request.actions}
    for place, slot in enumerate(request.slots):
        where = f"slots[{place}]"
        if not 1 <= len(slot.id) <= MAX_ID:
            raise ERRORS.refuse("InvalidRankRequest", f"Slot ids must have 1 to {MAX_ID} characters.", f"{where}.id")
        _check_characters("Slot ids", slot.id, f"{where}.id")
        if slot.baseline_action not in actions:
            raise ERRORS.refuse("InvalidRankRequest", _BASELINES, f"{where}.baselineAction")
        if slot.baseline_action in (slot.excluded_actions or ()):
            message = "BaselineAction cannot be part of ExcludedActions."
            raise ERRORS.refuse("InvalidRankRequest", message, f"{where}.excludedActions")
    _check_unique((slot.id for slot in request.slots), "Slot ids must be unique.", "slots")
    _check_unique((slot.baseline_action for slot in request.slots), _BASELINES, "slots")


_BASELINES = "Each slot must contain a unique BaselineAction with an ID corresponding to an element of Actions."


def _check_unique(ids: Iterable[str], message: str, where: str) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise ERRORS.refuse("InvalidRankRequest", message, where)
        seen.add(one)


def _features(context: FeatureObjectList | None, actions: Sequence[RankableAction]) -> Features:
    items = tuple(_without_empty(action.features) for action in actions)
    return Features.model_construct(context=_without_empty(context), items=items)


def _without_empty(objects: FeatureObjectList | None) -> FeatureObjects:
    return tuple(part for part in objects or () if part)
