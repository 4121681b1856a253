"""Values in lines of DSJSON that others have written: times, ids, numbers, distributions, features."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_json

from data.errors import DataError
from data.schema import FeatureObjects

CONTEXT, ITEM, FEATURES = "FromUrl", "i", "j"
"""Namespaces of a context's features, an item's id and an item's or a slot's features."""

_ROUNDING = 1e-5  # of a probability as float32
_OFF = 1e-3  # a distribution that is further off is none

Json = dict[str, Any]


def digest(raw: bytes) -> str:
    """Return a name for what is known by its content only."""
    return blake2b(raw, digest_size=16).hexdigest()


def parse_time(row: Mapping[str, Any], name: str, otherwise: datetime | None) -> datetime:
    """Return a time of a line; one without an offset is in UTC."""
    written = row.get(name)
    if written is None:
        if otherwise is None:
            raise DataError(f"it has no {name}: `--time` gives such lines one")
        return otherwise
    try:
        time = datetime.fromisoformat(written)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be a time such as 2021-02-04T16:31:29Z, got {written!r:.100}") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def parse_flag(row: Mapping[str, Any], name: str) -> bool:
    """Return a truth value of a line; false where it has none."""
    value = row.get(name, False)
    if not isinstance(value, bool):
        raise DataError(f"{name} must be true or false, got {value!r:.100}")
    return value


def parse_id(value: Any) -> str | None:
    """Return an id as text, 0 as "0"; None where there is none."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else to_json(value).decode()


def unique(ids: Sequence[str | None], first: Sequence[int]) -> list[str]:
    """Return ids of which no two are the same: those without one get their number, from 1.

    An id that is there several times belongs to the first of them that is in `first`, or else to the first of all; the
    others get their number behind it.
    """
    names = [name if name is not None else str(place + 1) for place, name in enumerate(ids)]
    found, taken = list(names), set[str]()
    for place in dict.fromkeys((*first, *range(len(names)))):
        while found[place] in taken:
            found[place] = f"{found[place]}#{place + 1}"
        taken.add(found[place])
    return found


def parse_objects(part: Json) -> FeatureObjects:
    """Return the features of a context, an action or a slot as objects; an item's id is none of them."""
    found: list[dict[str, JsonValue]] = []
    for name, value in _said(part).items():
        if name == ITEM and isinstance(value, dict):
            value = {key: inner for key, inner in value.items() if key not in ("id", "constant")}
            found += [{name: value}] if value else []
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            found += value if name in (CONTEXT, FEATURES) else [{name: entry} for entry in value]
        elif value != []:
            found.append({name: value})
    return tuple(found)


def _said(part: Any) -> Any:
    """Return a part of a line without what begins with _ and is therefore no feature; of `_text` its words are."""
    if isinstance(part, list):
        return [_said(entry) for entry in part]
    if not isinstance(part, dict):
        return part
    found = {name: _said(value) for name, value in part.items() if not name.startswith("_")}
    text = part.get("_text")
    return found | ({"_text": text.split()} if isinstance(text, str) else {})


def parse_number(value: Any, name: str) -> float:
    """Return a number of a line.

    Raises:
        DataError: it is none, or not finite.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{name} must be a finite number, got {value!r:.100}")
    return number


def parse_probability(value: Any, name: str) -> float:
    """Return a probability; as a float32 it may be a little more than 1."""
    p = parse_number(value, name)
    return 1.0 if 1.0 < p <= 1.0 + _ROUNDING else p


def parse_distribution(row: Json, n: int, chosen: int, propensity: float) -> tuple[float, ...]:
    """Return the distribution over the actions in the order of `c._multi`; none where the line has no whole one."""
    a, p = row.get("a"), row.get("p", row.get("_p"))
    if not isinstance(a, list) or not isinstance(p, list) or len(a) != n or len(p) != n:
        return ()
    if not all(type(entry) is int for entry in a):
        return ()
    start = min(a)  # numbers from 1, or in some files from 0
    if start not in (0, 1) or sorted(a) != list(range(start, start + n)):
        return ()
    try:
        of_action = {action: parse_probability(entry, "p") for action, entry in zip(a, p, strict=True)}
    except DataError:  # NaN, say
        return ()
    found = tuple(of_action[place + start] for place in range(n))
    exact = min(found) >= 0.0 and abs(math.fsum(found) - 1.0) <= _OFF and abs(found[chosen] - propensity) <= _OFF
    return found if exact else ()
