"""A replica's copy of the catalogue: what can be recommended now, by category, with features.

An item is available if it is marked so, has not expired and was not deleted. An item that the catalogue does not know
is available too: a shop that keeps no catalogue here has all of its policy's items. A deleted item is known to be gone.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from data.log.current.items import changes, last_revision
from data.log.store import Store
from data.log.unreadable import describe_error, log_unreadable

_CHANGES_AT_ONCE = 20_000
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Entry:
    features: Mapping[str, Any]
    categories: tuple[str, ...]
    available: bool
    expires_at: datetime


class Catalogue:
    """Follows the store by revisions. One thread may refresh it while others look up: they see an item whole or not."""

    def __init__(self) -> None:
        self.revision = 0
        """Of the last change that it has."""
        self._entries: dict[str, _Entry] = {}
        # Immutable, and replaced by a refresh: ids of items that are available until they expire, in their order.
        self._offered: tuple[str, ...] = ()
        self._of_category: dict[str, tuple[str, ...]] = {}
        self._expiring: tuple[tuple[datetime, str], ...] = ()
        self._unexpired: tuple[tuple[str, ...], int, tuple[str, ...]] = ((), 0, ())

    def __len__(self) -> int:
        """Return the number of items, available or not; deleted ones are not forgotten."""
        return len(self._entries)

    def refresh(self, store: Store) -> int:
        """Read what has changed since the last refresh; returns how many changes that were.

        Raises:
            StoreUnavailable: the rest has to be read later.
        """
        count = 0
        if last_revision(store) == self.revision:
            return count
        while rows := changes(store, self.revision, _CHANGES_AT_ONCE):
            self._apply(rows)
            self.revision = rows[-1].revision
            count += len(rows)
        return count

    def items(
        self, now: datetime, categories: Collection[str] | None = None, limit: int | None = None
    ) -> Sequence[str]:
        """Return the ids of the items that are available, in ascending order.

        Args:
            now: the time.
            categories: only items that have one of these.
            limit: return only so many. Take one more than you can use, and you know whether there are too many.
        """
        offered = self._offered if categories is None else self._in(categories, limit)
        expired = bisect_right(self._expiring, now, key=lambda expiry: expiry[0])
        if expired:
            offered = self._without_expired(offered, expired)
        return offered if limit is None else offered[:limit]

    def available(self, item_id: str, now: datetime) -> bool:
        """Return whether the item can be shown; one that is not known can."""
        entry = self._entries.get(item_id)
        return entry is None or (entry.available and entry.expires_at > now)

    def categories_of(self, item_id: str) -> tuple[str, ...]:
        """Return the item's categories; none if it is not known."""
        entry = self._entries.get(item_id)
        return entry.categories if entry else ()

    def features_of(self, item_id: str) -> Mapping[str, Any]:
        """Return the item's features; none if it is not known."""
        entry = self._entries.get(item_id)
        return entry.features if entry else _NOTHING

    def _in(self, categories: Collection[str], limit: int | None) -> tuple[str, ...]:
        groups = [group for category in {*categories} if (group := self._of_category.get(category))]
        if len(groups) == 1:
            return groups[0]
        if limit is not None and (large := [group for group in groups if len(group) > limit + len(self._expiring)]):
            return large[0]  # too many as it is: their union need not be made
        return tuple(sorted({item for group in groups for item in group}))

    def _without_expired(self, offered: tuple[str, ...], count: int) -> tuple[str, ...]:
        """Leave out the first `count` items to expire."""
        whole, known, kept = self._unexpired
        if whole is offered and known == count:
            return kept
        gone = {item for _, item in self._expiring[:count]}
        kept = tuple(item for item in offered if item not in gone)
        if offered is self._offered:
            self._unexpired = (offered, count, kept)
        return kept

    def _apply(self, rows: "Sequence[sa.Row[Any]]") -> None:
        entries = dict[str, _Entry]()
        for row in rows:
            try:
                entries[row.item_id] = _entry(row)
            except (TypeError, ValueError, AttributeError) as error:  # of another hand: the others are taken over
                log_unreadable("items", str(row.item_id), describe_error(error))
        left, joined = defaultdict[str, set[str]](set), defaultdict[str, list[str]](list)
        for item, new in entries.items():
            for category in self.categories_of(item):
                left[category].add(item)
            for category in new.categories if new.available else ():
                joined[category].append(item)
        offered = [item for item, entry in entries.items() if entry.available]
        expiring = [(entries[item].expires_at, item) for item in offered if entries[item].expires_at < _NEVER]
        self._entries.update(entries)
        self._expiring = tuple(sorted([*(e for e in self._expiring if e[1] not in entries), *expiring]))
        self._offered = _merge(self._offered, entries, offered)
        for category in left.keys() | joined.keys():
            of_category = _merge(self._of_category.get(category, ()), left[category], joined[category])
            self._of_category[category] = of_category


def _entry(row: "sa.Row[Any]") -> _Entry:
    if not isinstance(row.features, dict) or not all(isinstance(category, str) for category in row.categories):
        raise TypeError("features must be an object, and categories a list of texts")
    available = row.available and not row.deleted
    return _Entry(row.features, tuple(row.categories), available, row.expires_at or _NEVER)


def _merge(ids: Iterable[str], left: Collection[str], joined: Iterable[str]) -> tuple[str, ...]:
    """Return ids in ascending order, without those that left and with those that joined."""
    merged = [item for item in ids if item not in left]  # in order already: sorting only merges
    merged.extend(sorted(joined))
    merged.sort()
    return tuple(merged)
