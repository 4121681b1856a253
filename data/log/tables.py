"""The tables: those of the log, with how a record becomes a row and back, and those of what is so now.

Rows of the log (decisions, feedback, events, rejects, versions) say what has happened and never change. The others
(items, users, keys, sessions, settings, erasures, and where archived rows are) do.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

import sqlalchemy as sa

from data.log.column_types import Json, JsonModel, JsonSlots, JsonTuple, Position, RawText, Time
from data.schema import (
    LOOP_V1,
    AnyRecord,
    Decision,
    Event,
    Features,
    Feedback,
    Reject,
    Rules,
    Version,
)

Key: TypeAlias = tuple[str, ...]
R = TypeVar("R", bound=AnyRecord)

METADATA = sa.MetaData()


@dataclass(frozen=True)
class Log(Generic[R]):
    """One kind of record and its table: column `seq`, then one column a field, in the record's order."""

    record: type[R]
    table: sa.Table
    key: tuple[sa.Column[str], ...]
    """The columns that identify a record, whoever sends it and however often."""

    def key_of(self, record: AnyRecord) -> Key:
        """Return the record's values in the key's columns."""
        return tuple([getattr(record, column.name) for column in self.key])

    def between(self, after: int, until: int | None, loop: str | None) -> list[sa.ColumnElement[bool]]:
        """Return the conditions of rows after a log position, up to another (None: the newest), of one loop or all."""
        columns = self.table.c
        where = [columns.seq > after]
        where += [columns.seq <= until] if until is not None else []
        where += [columns.loop == loop] if loop is not None else []
        return where

    def select(self, *, without: Collection[str] = ()) -> sa.Select[Any]:
        """Return a query for `read`, of all columns but some."""
        return sa.select(*(column for column in self.table.c if column.name not in without))

    def read(self, rows: sa.CursorResult[Any]) -> list[tuple[int, R]]:
        """Turn rows of a `select` into records with their positions; fields without a column are empty tuples."""
        # Not validated again: a row was written from a validated record, and validation would be most of the time.
        construct = cast(Callable[..., R], self.record.model_construct)
        names = list(rows.keys())[1:]
        empty = dict.fromkeys(self.record.model_fields.keys() - names, ())
        return [(row[0], construct(**empty, **dict(zip(names, row[1:], strict=True)))) for row in rows]


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _log(record: type[R], name: str, key: tuple[str, ...], *columns: sa.Column[Any] | sa.Index) -> Log[R]:
    # AUTOINCREMENT: a position is never given twice, even if the newest rows are archived and removed.
    seq: sa.Column[int] = sa.Column("seq", Position, primary_key=True, autoincrement=True)
    table = sa.Table(name, METADATA, seq, *columns, sa.UniqueConstraint(*key), sqlite_autoincrement=True)
    return Log(record, table, tuple(table.c[column] for column in key))


DECISIONS = _log(
    Decision,
    "decisions",
    ("decision_id",),
    _text("decision_id"),
    sa.Column("time", Time, nullable=False, index=True),
    _text("loop", LOOP_V1),
    sa.Column("user_id", sa.Text, index=True),
    sa.Column("node_id", sa.Text),
    sa.Column("context", Json, nullable=False),
    *(sa.Column(name, JsonTuple, nullable=False) for name in ("candidates", "slate", "propensities", "scores")),
    *(_text(name) for name in ("policy", "policy_version", "mode")),
    _text("objective", "default"),
    sa.Column("deferred", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("weight", sa.Double, nullable=False, server_default=sa.text("1")),
    sa.Column("probabilities", JsonTuple, nullable=False, server_default="[]"),
    sa.Column("features", JsonModel(Features)),
    sa.Column("rules", JsonModel(Rules)),
    sa.Column("slots", JsonSlots, nullable=False, server_default="[]"),
    sa.Column("request", sa.Text),
    sa.Column("abtest", sa.Text),
    sa.Column("variant", sa.Text),
    sa.Column("teams", JsonTuple, nullable=False, server_default="[]"),
    sa.Index("ix_decisions_loop_seq", "loop", "seq"),
)

FEEDBACK = _log(
    Feedback,
    "feedback",
    ("feedback_id",),
    _text("feedback_id"),
    sa.Column("decision_id", sa.Text, nullable=False, index=True),
    _text("loop", LOOP_V1),
    sa.Column("item_id", sa.Text),
    _text("kind"),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("time", Time),
    sa.Column("received_at", Time, nullable=False),
    sa.Index("ix_feedback_loop_seq", "loop", "seq"),
)

EVENTS = _log(
    Event,
    "events",
    ("node_id", "event_id"),
    _text("node_id"),
    _text("event_id"),
    sa.Column("user_id", sa.Text),
    sa.Column("item_id", sa.Text),
    sa.Column("time", Time),
    sa.Column("outcome", sa.Double),
    sa.Column("record", Json, nullable=False),
    sa.Column("received_at", Time, nullable=False),
    sa.Index("ix_events_node_id_seq", "node_id", "seq"),
    sa.Index("ix_events_user_id", "user_id"),
)

REJECTS = _log(
    Reject,
    "rejects",
    ("node_id", "reject_id"),
    _text("node_id"),
    _text("reject_id"),
    _text("source"),
    sa.Column("row", sa.BigInteger, nullable=False),
    _text("rule"),
    sa.Column("column", sa.Text),
    sa.Column("value", RawText),
    sa.Column("record", Json, nullable=False),
    sa.Column("received_at", Time, nullable=False),
    sa.Index("ix_rejects_node_id_seq", "node_id", "seq"),
)

VERSIONS = _log(
    Version,
    "versions",
    ("version_id",),
    *(_text(name) for name in ("version_id", "loop", "objective", "fold_id")),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("number", "decision_seq", "feedback_seq")),
    sa.Column("as_of", Time, nullable=False),
    sa.Column("caught_up", sa.Boolean, nullable=False),
    sa.Column("begins", Json),
    sa.Column("received_at", Time, nullable=False),
    sa.Index("ix_versions_fold_id_number", "fold_id", "number"),
    sa.Index("ix_versions_number_loop", "number", "loop"),
)

LOGS: tuple[Log[Any], ...] = (DECISIONS, FEEDBACK, EVENTS, REJECTS, VERSIONS)
"""Decisions come first: a feedback that is written together with its decision is no orphan."""

NAMED: tuple[Log[Any], ...] = (DECISIONS, FEEDBACK, EVENTS, REJECTS)
"""Those of which a row has a name that its sender may send again at any time."""

ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("features", Json, nullable=False),
    sa.Column("categories", Json, nullable=False),
    sa.Column("available", sa.Boolean, nullable=False),
    sa.Column("expires_at", Time),
    # A deleted item's row stays, so that whoever follows the revisions hears of it.
    sa.Column("deleted", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("updated_at", Time, nullable=False),
    # Grows with every change of any item: whoever has read up to one asks for what is after it.
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
)

USERS = sa.Table(
    "users",
    METADATA,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("features", Json, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
)

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time),
)

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("session_hash", sa.Text, primary_key=True),
    _text("key_id"),
    _text("proof"),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time, nullable=False),
)

SETTINGS = sa.Table(
    "settings",
    METADATA,
    sa.Column("seq", Position, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("value", Json, nullable=False),
    sa.Column("time", Time, nullable=False),
    sqlite_autoincrement=True,
)
"""Every value that a setting has had; the last of a name is the one that counts."""

ERASURES = sa.Table(
    "erasures",
    METADATA,
    sa.Column("seq", Position, primary_key=True, autoincrement=True),
    sa.Column("time", Time, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""When a user was forgotten, and how many rows of the log that took; not who."""

PARTS = sa.Table(
    "archived_parts",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    _text("kind"),
    _text("day"),
    sa.Column("first", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    # Of feedback: the positions of the decisions that it is about.
    sa.Column("refers_first", sa.BigInteger),
    sa.Column("refers_last", sa.BigInteger),
    sa.Column("time_first", Time, nullable=False),
    sa.Column("time_last", Time, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _text("root"),
    # None: nothing of it is kept any more.
    sa.Column("path", sa.Text),
    # The log's own rows of it are deleted. Until then they are in both.
    sa.Column("cleared", sa.Boolean, nullable=False, server_default="0"),
    sa.Index("ix_archived_parts_kind_last", "kind", "last"),
    sqlite_autoincrement=True,
)
"""The files of archived rows of the log. A file counts from the commit of its row on."""

STRAYS = sa.Table(
    "archived_strays",
    METADATA,
    sa.Column("root", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
)
"""Files of the archive that are being written, or are to be deleted: nobody reads them. Others' files are not ours."""

ARCHIVED_KEYS = sa.Table(
    "archived_keys",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Positions by a number that stands for a name (`data.log.archived.keys`). Others may have the same number, and a row
may be in the log yet, or gone: whoever finds a position reads what is there."""

ANY_ARCHIVED = "SELECT 1 FROM archived_keys LIMIT 1"
"""Says whether there is any: most logs have no archive."""
