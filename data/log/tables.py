"""The tables of the log and how a record becomes a row and back. Who writes and reads them is store.py."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar, cast

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.types import TypeDecorator

from data.schema import (
    Decision,
    Event,
    Features,
    Feedback,
    Reject,
    Rules,
    Slot,
    Version,
)

AnyRecord: TypeAlias = Decision | Feedback | Event | Reject | Version
Key: TypeAlias = tuple[str, ...]
R = TypeVar("R", bound=AnyRecord)
V = TypeVar("V")

SCHEMA_VERSION = 3
"""Raise it with every change of a table: a store written by another version is refused, not misread."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
METADATA = sa.MetaData()
_VALUES = 10_000  # SQLite binds at most 32,766 in a statement


def chunks(values: Collection[V]) -> Iterator[list[V]]:
    """Yield the values by as many as a statement can name."""
    left = iter(values)
    while chunk := list(islice(left, _VALUES)):
        yield chunk


class Time(TypeDecorator[datetime]):
    """A point in time as whole microseconds since 1970 UTC: exact, and compared as a number."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: D102
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:  # noqa: D102
        return None if value is None else EPOCH + timedelta(microseconds=value)


class Json(TypeDecorator[Any]):
    """JSON text: a float is written as the shortest digits that read back as the same float."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str:  # noqa: D102
        return to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: D102
        return None if value is None else from_json(value)


class _JsonModel(Json):
    """A record within a record; None where there is none."""

    cache_ok = True

    def __init__(self, model: type[BaseModel]) -> None:
        super().__init__()
        self.model = model

    def process_bind_param(self, value: BaseModel | None, dialect: sa.Dialect) -> str | None:  # type: ignore[override]
        return None if value is None else value.model_dump_json(exclude_defaults=True)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> BaseModel | None:
        return None if value is None else self.model.model_validate_json(value)


class _JsonSlots(Json):
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[Slot, ...]:
        return () if value in (None, "[]") else tuple(Slot.model_validate(slot) for slot in from_json(value or "[]"))


class _JsonTuple(Json):
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[Any, ...] | None:
        return None if value is None else tuple(from_json(value))


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

    @cached_property
    def insertion(self) -> sa.Insert:
        """What inserts those of some records that are new, and returns the position and the key of each."""
        return insert(self.table).on_conflict_do_nothing().returning(self.table.c.seq, *self.key)

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
    seq: sa.Column[int] = sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True)
    table = sa.Table(name, METADATA, seq, *columns, sa.UniqueConstraint(*key), sqlite_autoincrement=True)
    return Log(record, table, tuple(table.c[column] for column in key))


DECISIONS = _log(
    Decision,
    "decisions",
    ("decision_id",),
    _text("decision_id"),
    sa.Column("time", Time, nullable=False, index=True),
    _text("loop", "v1"),
    sa.Column("user_id", sa.Text, index=True),
    sa.Column("node_id", sa.Text),
    sa.Column("context", Json, nullable=False),
    *(sa.Column(name, _JsonTuple, nullable=False) for name in ("candidates", "slate", "propensities", "scores")),
    *(_text(name) for name in ("policy", "policy_version", "mode")),
    _text("objective", "default"),
    sa.Column("deferred", sa.Boolean, nullable=False, server_default="0"),
    sa.Column("weight", sa.Double, nullable=False, server_default=sa.text("1")),
    sa.Column("probabilities", _JsonTuple, nullable=False, server_default="[]"),
    sa.Column("features", _JsonModel(Features)),
    sa.Column("rules", _JsonModel(Rules)),
    sa.Column("slots", _JsonSlots, nullable=False, server_default="[]"),
    sa.Column("request", sa.Text),
    sa.Index("ix_decisions_loop_seq", "loop", "seq"),
)

FEEDBACK = _log(
    Feedback,
    "feedback",
    ("feedback_id",),
    _text("feedback_id"),
    sa.Column("decision_id", sa.Text, nullable=False, index=True),
    _text("loop", "v1"),
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
    sa.Column("value", sa.Text),
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
