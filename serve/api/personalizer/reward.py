"""Reward and activate: what is reported of an event becomes feedback, whose id follows from what it says.

So the same report sent twice counts once, whichever request it came with. A report about an event that was not ranked
yet is kept, and counts if the rank reaches the log within the wait time.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from data.fields import Amount, Id, is_id
from data.schema import ACTIVATE, Feedback
from serve.api.personalizer.configuration.values import LOOP, REWARD
from serve.api.personalizer.errors import ERRORS, Code
from serve.api.personalizer.rank import MAX_ID, NO_CONTROLS, to_decision_id

_Value = Annotated[Amount, Field(strict=True)]


class _Body(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )


class RewardRequest(_Body):
    """What an event earned."""

    value: _Value


class SlotReward(_Body):
    """What a slot of an event earned."""

    slot_id: Id
    value: _Value


class MultiSlotRewardRequest(_Body):
    """What slots of an event earned."""

    reward: Annotated[list[SlotReward], Field(min_length=1, max_length=1_000)]


def rewards(event_id: str, values: Sequence[tuple[str | None, float]]) -> list[Feedback]:
    """Return the feedback of an event's rewards: slots with values, None being that of an event without.

    Raises:
        Refused: no event can have this id.
    """
    _check(event_id, "InvalidRewardRequest")
    return [_feedback(event_id, REWARD, slot, value) for slot, value in values]


def activation(event_id: str) -> Feedback:
    """Return the feedback that says that an event was shown.

    Raises:
        Refused: no event can have this id.
    """
    _check(event_id, "InvalidEventIdToActivate")
    return _feedback(event_id, ACTIVATE, None, 1.0)


def _feedback(event_id: str, kind: str, slot: str | None, value: float) -> Feedback:
    # Lengths tell the parts apart, whatever they contain.
    parts = [event_id, kind, "-" if slot is None else f"={slot}", repr(float(value))]
    content = "".join(f"{len(part)}:{part}" for part in parts)
    digest = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return Feedback.model_construct(
        feedback_id=f"{LOOP}:{digest}",
        decision_id=to_decision_id(event_id),
        loop=LOOP,
        item_id=slot,
        kind=kind,
        value=float(value),
        time=None,
        received_at=None,
    )


def _check(event_id: str, code: Code) -> None:
    if not 1 <= len(event_id) <= MAX_ID:
        raise ERRORS.refuse(code, f"EventId should have 1 to {MAX_ID} characters.", "eventId")
    if not is_id(event_id):
        raise ERRORS.refuse(code, f"EventId {NO_CONTROLS}", "eventId")
