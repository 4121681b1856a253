"""Durations as the dialects write them: ISO 8601 (PT10M) and .NET time spans (00:10:00). Both are read anywhere."""

import re
from datetime import timedelta

_ISO = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?"
)
_SPAN = re.compile(r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d(?:\.\d{1,7})?)")


def parse(text: object) -> timedelta:
    """Read a duration of either form.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(text, timedelta):
        return text
    found = None
    if isinstance(text, str) and len(text) <= 40:
        found = _ISO.fullmatch(text) if text.startswith("P") else _SPAN.fullmatch(text)
    parts = {name: float(value) for name, value in found.groupdict().items() if value} if found else {}
    if not parts:
        raise ValueError(f"a duration is written PT10M or 00:10:00, got {text!r:.60}")
    try:
        return timedelta(**parts)
    except OverflowError as error:
        raise ValueError(f"a duration of {text!r:.60} is too long") from error


def iso(duration: timedelta) -> str:
    """Write a duration as ISO 8601 does."""
    hours, minutes, seconds = _parts(duration)
    time = "".join(f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if value != "0")
    days = f"{duration.days}D" if duration.days else ""
    return f"P{days}{'T' if time else ''}{time}" if days or time else "PT0S"


def time_span(duration: timedelta) -> str:
    """Write a duration as .NET does."""
    hours, minutes, seconds = _parts(duration)
    whole, _, fraction = seconds.partition(".")
    days = f"{duration.days}." if duration.days else ""
    rest = f".{fraction:0<7}" if fraction else ""
    return f"{days}{int(hours):02}:{int(minutes):02}:{int(whole):02}{rest}"


def _parts(duration: timedelta) -> tuple[str, str, str]:
    """Return hours, minutes and seconds beside the days."""
    minutes, seconds = divmod(duration.seconds, 60)
    fraction = f".{duration.microseconds:06}".rstrip("0") if duration.microseconds else ""
    return str(minutes // 60), str(minutes % 60), f"{seconds}{fraction}"
