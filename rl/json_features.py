"""Features of any JSON as ids and values, for policies that learn from what a client says. Light: numpy.

A nested object is a namespace. A string or a truth value is a category: its name and its value make one feature of
value 1. A number is a feature of its name; an array of numbers is one feature an entry; null says nothing.

An id has 52 bits, so that a float64 holds it: 43 of the hash of namespace, name and category, 8 of the first letter of
the namespace, which is what interactions go by, and 1 that is on for a category. 0 is no id.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from data.schema import CONTEXT_TIME, Described, Features, Slot
from rl.catalogue_encoder import CatalogueEncoder
from rl.encoding import Visit, histories
from rl.policy import FloatArray, IntArray, Query
from rl.sparse import Sparse

DEFAULT_NAMESPACE = " "
ITEM_NAMESPACE = "i"
"""The namespace of an item's own id."""
_SLOT_NAMESPACE = "slot"
_DEEPEST = 32  # objects within objects

Pair = tuple[int, float]
"""A feature's id and its value."""


class FeatureError(ValueError):
    """A description of a context or an item cannot be features; says what and where."""


@lru_cache(maxsize=1 << 17)
def feature_id(namespace: str, name: str, category: str | bool | None = None) -> int:
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


def letters(ids: IntArray) -> IntArray:
    """Return the codes of the first letters of ids' namespaces."""
    return (ids >> 1) & 0xFF


def categorical(ids: IntArray) -> NDArray[np.bool_]:
    """Return which ids are of categories."""
    return (ids & 1).astype(np.bool_)


def flatten(described: Described | Sequence[dict[str, JsonValue]], where: str = "features") -> list[Pair]:
    """Flatten descriptions into pairs of a feature's id and its value, in the order of the JSON.

    Raises:
        FeatureError: an array holds anything but numbers, a number is not finite, or objects are nested deeper than 32.
    """
    found: list[Pair] = []
    for place, part in enumerate(described):
        _walk(part, "", f"{where}[{place}]", found, 0)
    return found


def _walk(part: dict[str, JsonValue], namespace: str, where: str, found: list[Pair], depth: int) -> None:
    if depth > _DEEPEST:
        raise FeatureError(f"{where} is nested deeper than {_DEEPEST} objects")
    for name, value in part.items():
        match value:
            case str() | bool():
                found.append((feature_id(namespace, name, value), 1.0))
            case int() | float():
                found.append((feature_id(namespace, name), _number(value, where, name)))
            case dict():
                inner = f"{namespace}.{name}" if namespace else name
                _walk(value, inner, f"{where}.{name}", found, depth + 1)
            case list():
                found.extend(_entries(value, namespace, name, where))
            case _:
                pass


def _entries(values: list[JsonValue], namespace: str, name: str, where: str) -> Iterable[Pair]:
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FeatureError(
                f"Features should not contain array with non-number items. {where}.{name}[{place}] is {value!r:.100}"
            )
        entry = f"{name}[{place}]"
        yield feature_id(namespace, entry), _number(value, where, entry)


def _number(value: int | float, where: str, name: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise FeatureError(f"{where}.{name} must be a finite number, got {value!r:.100}")
    return number


def for_slot(features: Features | None, slot: Slot) -> Features:
    """Return the features with the slot's own, and its id, added to those of the context.

    A slate's places are decided and learned one by one, each in the context of its slot.
    """
    features = features or Features()
    own: dict[str, JsonValue] = {_SLOT_NAMESPACE: {"id": slot.slot_id}}
    return features.model_copy(update={"context": (*features.context, own, *slot.features)})


class DescribedEncoder(CatalogueEncoder):
    """Encodes what was said of a visit; a visit of which nothing was said has its flat context and its items' ids.

    The catalogue may be empty: positions are for others, this knows an item by its id.
    """

    @cached_property
    def version(self) -> str:
        """See `VisitEncoder.version`."""
        return f"described-{super().version}"

    def query(self, visits: Sequence[Visit]) -> Query:
        """See `VisitEncoder.query`.

        Raises:
            FeatureError: see `flatten`; or a visit's features are not of as many items as it has candidates.
        """
        b = len(visits)
        items = self.item_positions(item for visit in visits for item in visit.candidates).reshape(b, -1)
        return Query(
            features=np.zeros((b, 1, 0)),
            state=np.zeros(b, dtype=np.int64),
            items=items,
            mask=np.ones(items.shape, dtype=np.bool_),
            history=histories(visits),
            sparse=sparse(visits),
        )


def sparse(visits: Sequence[Visit]) -> Sparse:
    """Return the features of B visits with A candidates each, see `DescribedEncoder`."""
    contexts = [flatten(_context(visit), "context") for visit in visits]
    items = [pairs for visit in visits for pairs in _items(visit)]
    context, context_values = _padded(contexts)
    ids, values = _padded(items)
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
        yield [own, *flatten(described[place], f"items[{place}]")] if described else [own]


def _padded(rows: Sequence[list[Pair]]) -> tuple[IntArray, FloatArray]:
    """Return ids and values of rows as arrays [N, longest]."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    there = np.arange(lengths.max(initial=0)) < lengths[:, None]
    ids, values = np.zeros(there.shape, dtype=np.int64), np.zeros(there.shape)
    ids[there] = [pair[0] for row in rows for pair in row]
    values[there] = [pair[1] for row in rows for pair in row]
    return ids, values
