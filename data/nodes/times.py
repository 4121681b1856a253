"""Times from text and from numbers, whole arrays at a time; null where there is none.

All are in UTC and within the years 1 to 9999, which are those that Python has.
"""

import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from data.nodes.node import EPOCHS
from data.nodes.numeric import null_outside, null_unless, to_whole

TIMESTAMP = pa.timestamp("us", tz="UTC")
FIRST_S, LAST_S = (int(time.replace(microsecond=0, tzinfo=UTC).timestamp()) for time in (datetime.min, datetime.max))
"""Seconds since 1970 of the first and the last second that Python has."""
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
PLAIN = re.compile(r"(?:[^%]|%[YmdHMSyBbpI%])*")
"""Formats that Arrow reads as Python does, but for days that a month does not have."""
FRACTION = re.compile(r"(.*[^%])([.,:])%f", re.DOTALL)
"""Formats that end with a fraction of a second, which Arrow does not read."""


def parse_times(values: pa.Array, form: str | None) -> pa.Array:
    """Convert [N] strings by a strptime format, or by ISO 8601."""
    return null_outside_years(_parse_format(values, form) if form else _parse_iso(values))


def _parse_iso(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.timestamp("us")).cast(TIMESTAMP)
    except pa.ArrowInvalid:  # an offset or a fault somewhere: one by one
        return pa.array([_parse_time(value) for value in values.to_pylist()], TIMESTAMP)


def _parse_format(values: pa.Array, form: str) -> pa.Array:
    if fraction := FRACTION.fullmatch(form):
        return _parse_fraction(values, *fraction.groups())
    if not PLAIN.fullmatch(form):
        return pa.array([_parse_time(value, form) for value in values.to_pylist()], TIMESTAMP)
    moments = pc.strptime(values, format=form, unit="us", error_is_null=True)
    # Arrow turns February 30 into March 2: where the day is 1 to 3, Python's parser has the last word.
    early = pc.less_equal(pc.day(moments), 3).fill_null(False)
    real = pa.array([_parse_time(value, form) is not None for value in values.filter(early).to_pylist()], pa.bool_())
    checked = pc.replace_with_mask(pa.repeat(pa.scalar(True), len(values)), early, real)
    return null_unless(checked, moments).cast(TIMESTAMP)


def _parse_fraction(values: pa.Array, form: str, sign: str) -> pa.Array:
    """Convert times that end with 1 to 9 digits of a second after a sign; finer ones than microseconds are cut off."""
    parts = pc.extract_regex(values, rf"(?s)^(?P<time>.*)[{sign}](?P<fraction>\d{{1,9}})$")
    digits = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.struct_field(parts, "fraction"), 6, "0"), 0, 6)
    seconds = _parse_format(pc.struct_field(parts, "time"), form)
    return pc.add(seconds, digits.cast(pa.int64()).cast(pa.duration("us")))


def _parse_time(value: str | None, form: str | None = None) -> datetime | None:
    """Return the time that a text is, in UTC where it has no offset; None where it is none."""
    if value is None:
        return None
    try:
        moment = datetime.strptime(value, form) if form else datetime.fromisoformat(value)
        # Day 366 of a year that has 365 would be a day of the next.
        years = [moment.strftime(sign) for sign in ("%Y", "%y", "%G") if form and sign in form]
        if not all(year in value for year in years):
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter: beyond the years 1 to 9999 in UTC
        return None


def from_epoch(numbers: pa.Array, form: str | None) -> pa.Array:
    """Convert units of time since 1970; without a unit numbers are no times."""
    if form not in EPOCHS:
        return pa.nulls(len(numbers), TIMESTAMP)
    factor = EPOCHS[form]
    if pa.types.is_integer(numbers.type):
        numbers = to_whole(numbers)
    else:
        numbers, factor = pc.round(pc.multiply(numbers.cast(pa.float64(), safe=False), float(factor))), 1
    per_second = UNITS["us"] // factor
    known = null_outside(numbers, FIRST_S * per_second, LAST_S * per_second)
    return pc.multiply(known.cast(pa.int64()), factor).cast(TIMESTAMP)


def null_outside_years(times: pa.Array) -> pa.Array:
    """Return [N] times, null where one is not within the years 1 to 9999."""
    ticks = UNITS[times.type.unit]
    return null_outside(times, FIRST_S * ticks, (LAST_S + 1) * ticks - 1)
