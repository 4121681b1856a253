"""What the fields of records and requests may hold: ids, times, amounts, scalars."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, AwareDatetime, Field, FiniteFloat, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class _Says:
    """In an `Annotated`: one message, in the words of this project, whatever is wrong with the value."""

    message: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "contract", custom_error_message=self.message)


Scalar: TypeAlias = Annotated[
    str | int | FiniteFloat | bool | None, _Says("a value here is a text, a finite number, true, false or null")
]
"""A value in a context or a record: what JSON, Arrow and SQL all hold without loss."""

ID_PATTERN: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
"""No line breaks or other control characters: an id stands in paths, headers, files and lines of logs.

Spelt out, as not every reader of a JSON schema knows Unicode's categories.
"""
ID_LENGTH: Final = 256

Id = Annotated[
    str,
    Field(min_length=1, max_length=ID_LENGTH, pattern=ID_PATTERN),
    _Says("an id is a text of 1 to 256 characters, none of them a line break or another control character"),
]
"""An identifier that somebody gives."""

LoggedId = Annotated[str, Field(min_length=1, max_length=ID_LENGTH)]
"""An identifier of a record. Rows of earlier logs may have some that nobody could give today."""

DecisionId = Annotated[str, Field(min_length=1, max_length=320)]
"""The same of a decision: longer, as those of other loops than v1 begin with the loop's name."""


def _to_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{time.isoformat()} is no time between the years 1 and 9999 in UTC") from error


UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A point in time; any offset is accepted and converted, a time without one is refused."""
MAX_DAYS: Final = 36_500
"""A century, of settings in days: calendars do not go back as far as one likes."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
"""`(time - EPOCH) // MICROSECOND` is a time as a whole number: exact."""


def to_us(time: datetime) -> int:
    """Return a time in microseconds since 1970 UTC: exact."""
    return (time - EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """Return the time that is so many microseconds after 1970 began in UTC."""
    return EPOCH + timedelta(microseconds=us)


PolicyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
"""A policy's name is also its folder's."""

Amount = Annotated[FiniteFloat, Field(ge=-1e9, le=1e9)]
"""A reported value: bounded, so that sums of them stay finite and exact enough."""


def is_id(text: str) -> bool:
    """Say whether a text has none of the characters that an `Id` cannot have."""
    return not text or re.fullmatch(ID_PATTERN, text) is not None
