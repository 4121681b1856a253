"""The items of the catalogue in the store: put in, taken out, listed, followed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import Field
from pydantic_core import to_json

from data.feature_objects import FeatureObject
from data.fields import Id, UtcTime
from data.log.statements import chunks, has_element, insert_or_update, one_of
from data.log.store import Store
from data.log.tables import ITEMS
from data.log.unreadable import (
    UNREADABLE,
    describe_error,
    log_unreadable,
    pass_on,
)
from data.schema import Change, Record


class Item(Record):
    """Something that can be recommended."""

    item_id: Id
    features: FeatureObject = Field(default={})
    categories: Annotated[tuple[Id, ...], Field(max_length=100)] = ()
    available: bool = True
    expires_at: UtcTime | None = None
    """From then on it is not available; None: never."""


class StoredItem(Item):
    """An item as the store has it."""

    updated_at: UtcTime
    revision: int
    """Of the catalogue, at the item's last change. Each change of an item has a greater one than all before."""


def upsert(store: Store, items: Sequence[Item]) -> list[Change]:
    """Put items into the catalogue and say of each what that changed; of several with one id the last one counts.

    An item that is already as given is left alone, so that sending it again costs its followers nothing.

    Raises:
        StoreError: nothing was changed.
    """
    wanted = {item.item_id: item for item in items}
    with store.writing() as connection:
        stored = _select(connection, wanted)
        changed = [item for item in wanted.values() if _differs(item, stored.get(item.item_id))]
        _write(connection, [item.model_dump() | {"deleted": False} for item in changed], store.now())
    kinds: dict[str, Change] = dict.fromkeys(wanted, "unchanged")
    for item in changed:
        row = stored.get(item.item_id)
        kinds[item.item_id] = "created" if row is None or row.deleted else "changed"
    return [kinds[item.item_id] for item in items]


def delete(store: Store, item_id: str) -> bool:
    """Take an item out of the catalogue for good; returns whether it was in it.

    Raises:
        StoreError: nothing was changed.
    """
    with store.writing() as connection:
        row = _select(connection, [item_id]).get(item_id)
        if row is None or row.deleted:
            return False
        # Its followers must hear of it, so the row stays; what it said does not.
        _write(connection, [Item(item_id=item_id, available=False).model_dump() | {"deleted": True}], store.now())
    return True


def get(store: Store, item_id: str) -> StoredItem | None:
    """Return an item, or None if the catalogue has none with this id."""
    with store.reading() as connection:
        row = _select(connection, [item_id]).get(item_id)
    return None if row is None or row.deleted else _record(row)


def find(store: Store, item_ids: Collection[str]) -> dict[str, StoredItem]:
    """Return those of some items that the catalogue has, by id."""
    with store.reading() as connection:
        rows = _select(connection, item_ids)
    return {item_id: _record(row) for item_id, row in rows.items() if not row.deleted}


def page(
    store: Store, after: int, limit: int, *, category: str | None = None, available: bool | None = None
) -> list[StoredItem]:
    """Return items that changed after a revision, in the order of their last changes, `limit` at most.

    So 0 is the beginning, the last item's revision leads to the next page, and to what has changed since.

    Args:
        store: the store.
        after: a revision.
        limit: of the page.
        category: only items that have it.
        available: only items that are available now, or only those that are not.
    """
    columns, where = ITEMS.c, [ITEMS.c.revision > after, ~ITEMS.c.deleted]
    if category is not None:
        where.append(has_element(columns.categories, category))
    if available is not None:
        now = sa.and_(columns.available, sa.or_(columns.expires_at.is_(None), columns.expires_at > store.now()))
        where.append(now if available else ~now)
    query = sa.select(ITEMS).where(*where).order_by(columns.revision).limit(limit)
    with store.reading() as connection:
        return [_record(row) for row in connection.execute(query)]


def last_revision(store: Store) -> int:
    """Return the revision of the last change of any item, 0 if there was none, by one statement."""
    return int(store.read_once(sa.select(sa.func.coalesce(sa.func.max(ITEMS.c.revision), 0)))[0][0])


def changes(store: Store, after: int, limit: int) -> "Sequence[sa.Row[Any]]":
    """Return rows of `ITEMS`, those of deleted items among them, in the order of their last changes; see `page`."""
    query = sa.select(ITEMS).where(ITEMS.c.revision > after).order_by(ITEMS.c.revision).limit(limit)
    with store.reading() as connection:
        try:
            return connection.execute(query).all()
        except UNREADABLE as error:
            pass_on(error)
        # One by one: what cannot be read back is left out, and all others are had.
        revisions = connection.execute(query.with_only_columns(ITEMS.c.revision)).scalars().all()
        rows = list[sa.Row[Any]]()
        for revision in revisions:
            try:
                rows += connection.execute(sa.select(ITEMS).where(ITEMS.c.revision == revision)).all()
            except UNREADABLE as error:
                pass_on(error)
                log_unreadable("items", f"of revision {revision}", describe_error(error))
        return rows


def _record(row: "sa.Row[Any]") -> StoredItem:
    values = {name: value for name, value in row._mapping.items() if name != "deleted"}
    return StoredItem.model_construct(**values | {"categories": tuple(values["categories"])})


def _select(connection: sa.Connection, item_ids: Collection[str]) -> "dict[str, sa.Row[Any]]":
    rows = dict[str, "sa.Row[Any]"]()
    for ids in chunks(item_ids):
        query = sa.select(ITEMS).where(one_of(connection, ITEMS.c.item_id, ids))
        rows |= {row.item_id: row for row in connection.execute(query)}
    return rows


def _differs(item: Item, row: "sa.Row[Any] | None") -> bool:
    if row is None or row.deleted:
        return True
    given = [item.features, item.categories, item.available, item.expires_at]
    # As JSON, where true is not 1.
    return to_json(given) != to_json([row.features, row.categories, row.available, row.expires_at])


def _write(connection: sa.Connection, rows: Sequence[dict[str, Any]], now: datetime) -> None:
    last: int = connection.execute(sa.select(sa.func.coalesce(sa.func.max(ITEMS.c.revision), 0))).scalar_one()
    stamped = [row | {"updated_at": now, "revision": last + place} for place, row in enumerate(rows, start=1)]
    if stamped:
        connection.execute(insert_or_update(ITEMS), stamped)
