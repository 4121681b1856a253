"""Features of any JSON as ids and values, for policies that learn from what a client says.

What is said and what it means: `data.feature_objects`. A category is a feature of value 1; a number's value is itself.

An id has 52 bits, so that a float64 holds it: 43 of the hash of namespace, name and category, 8 of the first letter of
the namespace, which is what interactions go by, and 1 that is on for a category. 0 is no id.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from data.feature_objects import FeatureError
from data.schema import (
    CONTEXT_TIME,
    FeatureObjects,
    Features,
    Slot,
)
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.visit import Visit
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.explanation.parts import Names
from rl.policy.queries import Query
from rl.policy.sparse import Sparse

DEFAULT_NAMESPACE = " "
ITEM_NAMESPACE = "i"
"""The namespace of an item's own id."""
_SLOT_NAMESPACE = "slot"

Pair = tuple[int, float]
"""A feature's id and its value."""
Identify = Callable[..., int]
"""`_identify`, or what gives the same ids."""


def _identify(namespace: str, name: str, category: str | bool | None = None) -> int:
    """Return the id of a feature, the same in every process.

    Args:
        namespace: names of the objects around it, joined by dots.
        name: its own.
        category: its value where that is a category; None where it is a number.
    """
    parts = [namespace, name, "" if category is None else f"{type(category).__name__}:{category}"]
    text = "".join(f"{len(part)}:{part}" for part in parts)
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=6).digest()
    letter = ord(namespace.rpartition(".")[2][:1] or DEFAULT_NAMESPACE) & 0xFF
    return (int.from_bytes(digest) >> 5) << 9 | letter << 1 | (category is not None) or 1 << 9


feature_id = lru_cache(maxsize=1 << 17)(_identify)
_SHOWN = 100  # characters of a name in explanations
_LONG = 256  # characters; what is longer is not cached, so that the cache's memory does not grow with hostile requests


def letters(ids: IntArray) -> IntArray:
    """Return the codes of the first letters of ids' namespaces."""
    return (ids >> 1) & 0xFF


def categorical(ids: IntArray) -> NDArray[np.bool_]:
    """Return which ids are of categories."""
    return (ids & 1).astype(np.bool_)


def flatten(described: FeatureObjects | Sequence[dict[str, JsonValue]]) -> list[Pair]:
    """Flatten descriptions into pairs of a feature's id and its value, in the order of the JSON.

    `data.feature_objects` says what they mean. What was let in before it bounded things has its features too; only a
    number that is not finite says nothing.
    """
    found: list[Pair] = []
    for part in described:
        _walk(part, "", found, feature_id, _identify)
    return found


def name_features(described: FeatureObjects | Sequence[dict[str, JsonValue]]) -> dict[int, str]:
    """Return what the features of descriptions are called, by id: "where.name=category", or "where.name"."""
    names = dict[int, str]()

    def record(namespace: str, name: str, category: str | bool | None = None) -> int:
        feature = _identify(namespace, name, category)
        names[feature] = _call(namespace, name, category)
        return feature

    for part in described:
        _walk(part, "", [], record, record)
    return names


def _call(namespace: str, name: str, category: str | bool | None = None) -> str:
    said = str(category).lower() if isinstance(category, bool) else category
    full = f"{namespace}.{name}" if namespace else name
    full = full if said is None else f"{full}={said}"
    return full if len(full) <= _SHOWN else f"{full[: _SHOWN - 3]}..."


def _walk(part: dict[str, JsonValue], namespace: str, found: list[Pair], cached: Identify, uncached: Identify) -> None:
    """Add the features of an object; ids are given by `cached`, or where a name is long by `uncached`."""
    identify = cached if len(namespace) <= _LONG else uncached
    for name, value in part.items():
        match value:
            case str():
                found.append(((identify if len(value) <= _LONG else uncached)(namespace, name, value), 1.0))
            case bool():
                found.append((identify(namespace, name, value), 1.0))
            case int() | float():
                if (number := _finite(value)) is not None:
                    found.append((identify(namespace, name), number))
            case dict():
                _walk(value, f"{namespace}.{name}" if namespace else name, found, cached, uncached)
            case list():
                _walk_list(value, namespace, name, name, found, cached, uncached)
            case _:
                pass


def _walk_list(
    values: list[JsonValue],
    namespace: str,
    name: str,
    at: str,
    found: list[Pair],
    cached: Identify,
    uncached: Identify,
) -> None:
    """Add the features of a list: numbers as they come, then the categories of all that is in it, sorted, each once.

    Args:
        values: what is in it.
        namespace: of the list.
        name: its own, or that of the outermost of the lists around it.
        at: the same with its place in each of these.
        found: what they are added to.
        cached: see `_walk`; so `uncached`.
        uncached: gives ids of long names.
    """
    identify = cached if len(namespace) <= _LONG else uncached
    inner: list[Pair] = []
    for place, value in enumerate(values):
        if isinstance(value, float):  # most often: a vector
            if math.isfinite(value):
                found.append((identify(namespace, f"{at}[{place}]"), value))
        elif isinstance(value, str | bool):
            _walk({name: value}, namespace, inner, cached, uncached)
        elif isinstance(value, int):
            _walk({f"{at}[{place}]": value}, namespace, found, cached, uncached)
        elif isinstance(value, dict):
            _walk(value, f"{namespace}.{name}" if namespace else name, inner, cached, uncached)
        elif isinstance(value, list):
            _walk_list(value, namespace, name, f"{at}[{place}]", inner, cached, uncached)
    if inner:
        found.extend(pair for pair in inner if not pair[0] & 1)
        found.extend((category, 1.0) for category in sorted({pair[0] for pair in inner if pair[0] & 1}))


def _finite(value: int | float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def add_slot_features(features: Features | None, slot: Slot) -> Features:
    """Return the features with the slot's own, and its id, added to those of the context.

    A slate's places are decided and learned one by one, each in the context of its slot.
    """
    features = features or Features()
    own: dict[str, JsonValue] = {_SLOT_NAMESPACE: {"id": slot.slot_id}}
    return features.model_copy(update={"context": (*features.context, own, *slot.features)})


class FeaturesEncoder(CatalogueEncoder):
    """Encodes what was said of a visit; a visit of which nothing was said has its flat context and its items' ids.

    The catalogue may be empty: positions are for others, this knows an item by its id.
    """

    @cached_property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return f"described-{super().version}"

    def names(self, visit: Visit) -> Names:
        """See `VisitEncoder.names`."""
        described = visit.features.items if visit.features is not None else ()
        ids = name_features([*_context(visit), *(part for item in described for part in item)])
        ids |= {feature_id(ITEM_NAMESPACE, "id", item): _call("", "item", item) for item in visit.candidates}
        return replace(super().names(visit), ids=ids)

    def query(self, visits: Sequence[Visit]) -> Query:
        """See `VisitEncoder.query`.

        Raises:
            FeatureError: see `flatten`; or a visit's features are not of as many items as it has candidates.
        """
        return replace(super().query(visits), sparse=sparse(visits))


def sparse(visits: Sequence[Visit]) -> Sparse:
    """Return the features of B visits with A candidates each, see `FeaturesEncoder`."""
    contexts = [flatten(_context(visit)) for visit in visits]
    items = [pairs for visit in visits for pairs in _items(visit)]
    context, context_values = _pad(contexts)
    ids, values = _pad(items)
    shape = (len(visits), -1, ids.shape[1])
    return Sparse(context, context_values, ids.reshape(shape), values.reshape(shape))


def _context(visit: Visit) -> Sequence[dict[str, JsonValue]]:
    if visit.features is not None:
        return visit.features.context
    # The time of a visit never comes again: it is no category.
    return [{name: value for name, value in visit.context.items() if name != CONTEXT_TIME}]


def _items(visit: Visit) -> Iterable[list[Pair]]:
    described = visit.features.items if visit.features is not None else ()
    if described and len(described) != len(visit.candidates):
        raise FeatureError(
            f"features.items must describe every candidate, got {len(described)} for {len(visit.candidates)} candidates"
        )
    for place, item in enumerate(visit.candidates):
        own = (feature_id(ITEM_NAMESPACE, "id", item), 1.0)
        yield [own, *flatten(described[place])] if described else [own]


def _pad(rows: Sequence[list[Pair]]) -> tuple[IntArray, FloatArray]:
    """Return ids and values of rows as arrays [N, longest]."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    there = np.arange(lengths.max(initial=0)) < lengths[:, None]
    ids, values = np.zeros(there.shape, dtype=np.int64), np.zeros(there.shape)
    ids[there] = [pair[0] for row in rows for pair in row]
    values[there] = [pair[1] for row in rows for pair in row]
    return ids, values
