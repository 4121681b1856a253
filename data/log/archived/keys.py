"""Where archived rows are that are asked for by a name: a number of 8 bytes for each, and the positions that it may be.

A decision's own id begins with its time, and so does its number then: the index grows at its end, where it is written
in order and packed densely. All other names are hashed.
"""

import re
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from data.log.statements import chunks
from data.log.tables import ANY_ARCHIVED, ARCHIVED_KEYS, DECISIONS, EVENTS, NAMED, Key, Log

if TYPE_CHECKING:
    import pyarrow as pa  # who asks for names alone need not load it

_OF_USERS = frozenset({DECISIONS.table.name, EVENTS.table.name})
_WITH_TIME = re.compile(r"0[0-9a-f]{31}")
"""An id of `serve.contracts.ids`: 48 bits of milliseconds, of which the first are 0 until the year 2527."""
_AT = sa.select(ARCHIVED_KEYS.c.seq).where(ARCHIVED_KEYS.c.number.in_(sa.bindparam("numbers", expanding=True)))


def number(log: Log[Any], key: Key) -> int:
    """Return the number that stands for a key, as a signed integer of 64 bits."""
    if log is DECISIONS and _WITH_TIME.fullmatch(key[0]):
        return int(key[0][1:12], 16) << 18 | _hash(key[0]) & 0x3FFFF
    return _hash(log.table.name, *key) - (1 << 63)


def user_number(log: Log[Any], user_id: str) -> int:
    """Return the number that stands for the rows of a user."""
    return _hash(log.table.name, "user", user_id, "") - (1 << 63)


def _hash(*name: str) -> int:
    return int.from_bytes(blake2b("\0".join(name).encode("utf-8", "surrogatepass"), digest_size=8).digest())


def entries(log: Log[Any], table: "pa.Table") -> Iterator[tuple[int, int]]:
    """Yield the number and the position of each name of archived rows."""
    seqs = table["seq"].to_pylist()
    if log in NAMED:
        yield from ((number(log, key), seq) for seq, key in zip(seqs, key_tuples(log, table), strict=True))
    if log.table.name in _OF_USERS:
        users = table["user_id"].to_pylist()
        yield from ((user_number(log, user), seq) for seq, user in zip(seqs, users, strict=True) if user is not None)


def columns(log: Log[Any]) -> list[str]:
    """Return the columns that `entries` reads."""
    users = ["user_id"] if log.table.name in _OF_USERS else []
    return ["seq", *(column.name for column in log.key), *users]


def any_archived(connection: sa.Connection) -> bool:
    """Return whether there is any entry: most logs have no archive."""
    return connection.exec_driver_sql(ANY_ARCHIVED).first() is not None


def positions(connection: sa.Connection, numbers: Collection[int]) -> set[int]:
    """Return where archived rows may be that have one of some numbers."""
    found = set[int]()
    for chunk in chunks(numbers):
        found.update(connection.execute(_AT, {"numbers": chunk}).scalars())
    return found


def of_user(connection: sa.Connection, log: Log[Any], user_id: str, before: int | None, limit: int | None) -> list[int]:
    """Return where archived rows of a user may be, newest first, before a position (None: all)."""
    columns = ARCHIVED_KEYS.c
    where = [columns.number == user_number(log, user_id), *([columns.seq < before] if before is not None else [])]
    return list(
        connection.execute(sa.select(columns.seq).where(*where).order_by(columns.seq.desc()).limit(limit)).scalars()
    )


def key_tuples(log: Log[Any], table: "pa.Table") -> list[Key]:
    """Return the keys of archived rows."""
    return list(zip(*(table[column.name].to_pylist() for column in log.key), strict=True))
