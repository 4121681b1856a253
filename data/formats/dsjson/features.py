"""Features in DSJSON: written so that Vowpal Wabbit reads them, and checked where they come in.

Vowpal Wabbit (9.11) reads lists of numbers and lists of objects. A line with another list in it, tags say, it skips
without a word. So an entry of such a list is written as an object of its own, which is what it means
(`data.feature_objects`): `{"likes": ["jazz", "chess"]}` becomes `{"likes": "jazz"}` and `{"likes": "chess"}`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import JsonValue

from data.errors import DataError
from data.feature_objects import FeatureError, check_logged
from data.schema import Decision, FeatureObjects, Features


def make_readable(objects: Iterable[Mapping[str, JsonValue]]) -> list[dict[str, JsonValue]]:
    """Return objects with the features of those given, and nothing that Vowpal Wabbit does not read."""
    return [piece for part in objects for piece in _pieces(part)]


def check_features(decision: Decision) -> None:
    """Refuse what the interfaces do not let in.

    Raises:
        DataError: says what of what is wrong.
    """
    features = decision.features or Features()
    parts: list[tuple[str, FeatureObjects]] = [("context", (dict(decision.context),)), ("c", features.context)]
    parts += [(f"c._multi[{place}]", part) for place, part in enumerate(features.items)]
    parts += [(f"c._slots[{place}]", slot.features) for place, slot in enumerate(decision.slots)]
    for where, objects in parts:
        try:
            check_logged(objects)
        except FeatureError as error:
            raise DataError(f"{where}: {error}") from error


def _pieces(part: Mapping[str, JsonValue]) -> list[dict[str, JsonValue]]:
    rest: dict[str, JsonValue] = {}
    others: list[dict[str, JsonValue]] = []
    for name, value in part.items():
        if isinstance(value, dict):
            rest[name], *more = _pieces(value) or [{}]
            others += [{name: piece} for piece in more]
        elif isinstance(value, list) and not _is_readable(value):
            others += _entries(value, name, name, set())
        else:
            rest[name] = value
    return [rest, *others] if rest or not others else others


def _is_readable(values: Sequence[JsonValue]) -> bool:
    """Return whether Vowpal Wabbit reads a list."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, dict) and _pieces(value) == [value] for value in present):
        return True
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)


def _entries(
    values: Sequence[JsonValue], name: str, at: str, seen: set[tuple[type, JsonValue]]
) -> Iterator[dict[str, JsonValue]]:
    """Yield an object for each entry; `at` is the name of the list with its place in those around it."""
    for place, value in enumerate(values):
        match value:
            case str() | bool():
                if (type(value), value) not in seen:
                    seen.add((type(value), value))
                    yield {name: value}
            case int() | float():
                yield {f"{at}[{place}]": value}
            case dict():
                for piece in _pieces(value):
                    yield {name: piece}
            case list():
                yield from _entries(value, name, f"{at}[{place}]", seen)
            case _:
                pass
