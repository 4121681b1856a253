"""States of a table by what they are made of: segment, month, half of the month, weekday."""

from calendar import day_name, month_name
from typing import Final, NamedTuple

from data.features.rfm import SEGMENTS, STATES_PER_SEGMENT
from serve.contracts.errors import ERRORS

MONTHS: Final = tuple(enumerate(month_name))[1:]
DAYS: Final = tuple(enumerate(day_name))


class Moment(NamedTuple):
    """What a state is."""

    segment: str
    month: int
    """From 1."""
    half: int
    """1: to the 15th; 2: from the 16th on."""
    weekday: int
    """0 is Monday."""


def number_of(moment: Moment) -> int:
    """Return the number of a state, as `data.features.rfm.state_codes` gives it.

    Raises:
        Refused: there is no such segment.
    """
    if moment.segment not in SEGMENTS:
        raise ERRORS.refuse("invalid_request", f"segment must be one of {', '.join(SEGMENTS)}", "segment")
    within = ((moment.month - 1) * 2 + moment.half - 1) * 7 + moment.weekday
    return SEGMENTS.index(moment.segment) * STATES_PER_SEGMENT + within


def moment_of(state: int) -> Moment:
    """Return what a state is."""
    segment, within = divmod(state, STATES_PER_SEGMENT)
    half, weekday = divmod(within, 7)
    return Moment(SEGMENTS[segment], half // 2 + 1, half % 2 + 1, weekday)
