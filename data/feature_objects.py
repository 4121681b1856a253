"""Features of any JSON: what a client may say of a visit, a user or an item, and what it means.

Every door takes features through the types of this module, so that whatever was let in can be encoded by every policy
(`rl.encoders.json_features` does it) and is learned. What it means:

- A number is a feature of its name. It is finite, and at most `MAX_NUMBER` in absolute value.
- A string or a truth value is a category: its name and its value make one feature.
- An object is a namespace for what is in it.
- A list is taken entry by entry. Strings and truth values are categories of the list's name, such as tags: their order
  does not matter, and one that is there twice counts once. A number is a feature of the list's name and of its place,
  so a list of numbers is a vector. An object is one of the list's name, as if it stood there without the list; the
  same category in several of them counts once, numbers of one name add up. A list in a list goes on in the same way,
  and its numbers have a place in each.
- null says nothing, nor does an empty list or an empty object.

Names and strings are valid Unicode. Depth, number and length of names are bounded by the constants below.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import AfterValidator, JsonValue

from data.errors import RecommenderError

MAX_NUMBER = 1e15
"""Of numbers in absolute value: up to it a float64 tells all whole numbers apart, milliseconds since 1970 say."""
MAX_DEPTH = 32
"""Objects and lists around a value, the outermost object not counted."""
MAX_VALUES = 2_000
"""Values in one description, a list of objects being one: all that has a name or a place, at whatever depth."""
MAX_NAME = 256
"""Characters of a name."""


class FeatureError(RecommenderError, ValueError):
    """What was said cannot be features: where, what is wrong, and what would be right."""

    def __init__(self, fault: str, where: str = "") -> None:
        super().__init__(fault, where)
        self.fault, self.where = fault, where

    def __str__(self) -> str:
        return f"{self.where} {self.fault}" if self.where else self.fault

    def within(self, place: str | int) -> "FeatureError":
        """Return the same error as that of a larger value, in which this one's has a name or a place."""
        inner = self.where if not self.where or self.where.startswith("[") else f".{self.where}"
        return FeatureError(self.fault, f"[{place}]{inner}" if isinstance(place, int) else f"{place[:MAX_NAME]}{inner}")


class _Bounds(NamedTuple):
    depth: int
    values: int


_SAID = _Bounds(MAX_DEPTH, MAX_VALUES)
# There a visit's context and its user are one description, each under a name.
_LOGGED = _Bounds(MAX_DEPTH + 1, 2 * (MAX_VALUES + 1))


def check_object(described: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return one object of features, a context's flat one too, if it can be features.

    Raises:
        FeatureError: a number is not finite or too large, a text is no valid Unicode, a name is too long, or there is
            too much or too deep of it.
    """
    _room(described, 0, MAX_VALUES, _SAID)
    return described


def check_list(described: list[dict[str, JsonValue] | None]) -> list[dict[str, JsonValue] | None]:
    """Return a list of objects that together describe something, in which null says nothing; see `check_object`."""
    _check_all(described, _SAID)
    return described


def check_logged(described: Sequence[dict[str, JsonValue]]) -> None:
    """Check a description as records of the log have it, where it comes from outside; see `check_object`."""
    _check_all(described, _LOGGED)


FeatureObject: TypeAlias = Annotated[dict[str, JsonValue], AfterValidator(check_object)]
"""What is said of an item or a user."""

FeatureObjectList: TypeAlias = Annotated[list[dict[str, JsonValue] | None], AfterValidator(check_list)]
"""What is said of a context, an action or a slot: a list as the Personalizer API has it."""


def _check_all(described: Iterable[dict[str, JsonValue] | None], bounds: _Bounds) -> None:
    room = bounds.values
    for place, part in enumerate(described):
        if part is not None:
            try:
                room = _room(part, 0, room, bounds)
            except FeatureError as error:
                raise error.within(place) from None


def _room(part: dict[str, JsonValue] | list[JsonValue], depth: int, room: int, bounds: _Bounds) -> int:
    """Check an object or a list within `depth` others; returns how many more values there may be."""
    room -= len(part)
    if room < 0:
        raise FeatureError(f"brings the number of values above {bounds.values:,}: say less")
    entries: Iterable[tuple[str | int, JsonValue]]
    if isinstance(part, dict):
        for name in part:
            _check_name(name)
        entries = part.items()
    else:
        entries = enumerate(part)
    for place, value in entries:
        try:
            if isinstance(value, str):
                if not value.isascii():
                    _check_text(value)
            elif isinstance(value, dict | list):
                if depth == bounds.depth:
                    raise FeatureError(f"is deeper than {bounds.depth} objects and lists within each other: flatten it")
                room = _room(value, depth + 1, room, bounds)
            elif value is not None and not -MAX_NUMBER <= value <= MAX_NUMBER:  # NaN neither
                bounds_text = f"-{MAX_NUMBER:.0e} to {MAX_NUMBER:.0e}"
                raise FeatureError(f"must be a number from {bounds_text}, got {_format_number(value)}")
        except FeatureError as error:
            raise error.within(place) from None
    return room


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME:
        raise FeatureError(f"has a name of {len(name)} characters, {name[:20]!r}...: there may be {MAX_NAME}")
    if not name.isascii():
        _check_text(name)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FeatureError(f"must be valid Unicode: {error.reason} at {error.start}") from None


def _format_number(number: float) -> str:
    try:
        return f"{number:.6g}"
    except OverflowError:
        return "an integer that no float holds"
