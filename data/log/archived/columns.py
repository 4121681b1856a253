"""The columns of archived rows: those of the log's tables, with types of Arrow's, without loss.

Times are microseconds in UTC, arrays of ids and of numbers are lists; what is JSON of any shape stays its text.
Feedback has one more, `decision_seq`: the log position of its decision.
"""

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any, Final, cast

import pyarrow as pa
import sqlalchemy as sa
from pydantic_core import from_json, to_json
from sqlalchemy.engine.default import DefaultDialect

from data.errors import DataError
from data.fields import from_us
from data.log.column_types import Json, JsonTuple, Time
from data.log.tables import DECISIONS, FEEDBACK, LOGS, Log, R
from data.log.unreadable import Fault, describe_error, log_unreadable

VERSION: Final = 1
"""Of the columns; each file says which it has. A new column is no new version: rows of older files have what a
migration gives to older rows of the log, its default or null. Any other change is, and comes with what reads the
versions before.
"""
_VERSION_KEY = b"raycommend.columns"
DECISION_SEQ: Final = "decision_seq"
_NUMBERS = {DECISIONS.table.c.propensities, DECISIONS.table.c.scores, DECISIONS.table.c.probabilities}
_TIME = pa.timestamp("us", tz="UTC")
_NO_DIALECT = DefaultDialect()  # which columns of JSON do not ask for
UNFIT = (ValueError, TypeError, OverflowError, pa.ArrowException)
"""What values raise that do not fit their columns."""


@cache
def schema(log: Log[Any]) -> pa.Schema:
    """Return the columns of the archived rows of a table, the position first."""
    fields = [pa.field(column.name, _type(column), column.nullable) for column in log.table.c]
    if log is FEEDBACK:
        fields.append(pa.field(DECISION_SEQ, pa.int64(), nullable=False))
    return pa.schema(fields, {_VERSION_KEY: f"{log.table.name} {VERSION}"})


def check_version(written: pa.Schema, name: str) -> None:
    """Check that a file's columns are of a version that is known here.

    Raises:
        DataError: they are not, or the file does not say.
    """
    _, _, version = (written.metadata or {}).get(_VERSION_KEY, b"").decode(errors="replace").partition(" ")
    if version != str(VERSION):
        raise DataError(
            f"{name} has columns of version {version or 'unknown'}, and this program reads version {VERSION}: "
            "use the program that has written it, or a newer one"
        )


def add_missing(kind: str, table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return some columns of a table's rows; those that their file is older than have their default, or null.

    Raises:
        DataError: one of them has no default, and is never null.
    """
    log = next(log for log in LOGS if log.table.name == kind)
    for name in (name for name in names if name not in table.column_names):
        field = schema(log).field(name)
        value = _default(log.table.c[name], field.type) if name in log.table.c else None
        if value is None and not field.nullable:
            raise DataError(f"a file of archived {kind} lacks the column {name}, which all rows must have")
        table = table.append_column(field, pa.array([value] * table.num_rows, field.type))
    return table.select(list(names))


def _default(column: sa.Column[Any], of: pa.DataType) -> Any:
    """Return what rows that were written before a column have in it."""
    if column.server_default is None:
        return None
    text = str(cast(sa.DefaultClause, column.server_default).arg)
    return text if of == pa.string() else from_json(text) if pa.types.is_list(of) else pa.scalar(text).cast(of).as_py()


def _type(column: sa.Column[Any]) -> pa.DataType:
    match column.type:
        case Time():
            return _TIME
        case JsonTuple():
            return pa.list_(pa.float64() if column in _NUMBERS else pa.string())
        case sa.Boolean():
            return pa.bool_()
        case sa.Double():
            return pa.float64()
        case sa.Integer():
            return pa.int64()
    return pa.string()


def select(log: Log[Any], names: Collection[str] | None = None) -> sa.Select[Any]:
    """Return a query for `to_arrow`: columns as they are stored, all or those of some names."""
    wanted = [column for column in log.table.c if names is None or column.name in names]
    return sa.select(*(sa.type_coerce(column, _stored(column)) for column in wanted))


def _stored(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, Json):
        return sa.Text()
    return sa.BigInteger() if isinstance(column.type, Time) else column.type


def to_arrow(log: Log[Any], rows: Sequence[Sequence[Any]], names: Collection[str] | None = None) -> pa.Table:
    """Turn rows of `select`, of the same names, into a table, without `decision_seq`.

    Raises:
        One of UNFIT: a value does not fit its column.
    """
    wanted = [column.name for column in log.table.c if names is None or column.name in names]
    fields = [schema(log).field(name) for name in wanted]
    columns = zip(*rows, strict=True) if rows else [()] * len(fields)
    arrays = [_array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _array(values: Sequence[Any], of: pa.DataType) -> pa.Array:
    if of == _TIME:
        return pa.array(values, pa.int64()).cast(of)
    if pa.types.is_list(of):
        values = [None if value is None else from_json(value) for value in values]
    elif of == pa.string() and any(isinstance(value, bytes) for value in values):
        raise TypeError("a text column has bytes")
    array = pa.array(values, of)
    array.validate(full=True)  # texts are UTF-8
    return array


def to_records(log: Log[R], table: pa.Table, faults: list[Fault] | None = None) -> list[tuple[int, R]]:
    """Turn archived rows into records with their positions; fields without a column are empty tuples.

    Args:
        log: the table that they are of.
        table: some columns of theirs, the position among them.
        faults: gets the rows that cannot be read back; a line of the service's log names each in any case.
    """
    construct = cast(Callable[..., R], log.record.model_construct)
    names = [name for name in table.column_names if name in log.record.model_fields]
    empty = dict.fromkeys(log.record.model_fields.keys() - names, ())
    seqs, columns = table["seq"].to_pylist(), [_stored_values(table[name]) for name in names]
    decode = [_decoder(log.table.c[name]) for name in names]
    records = list[tuple[int, R]]()
    for seq, *values in zip(seqs, *columns, strict=True):
        try:
            fields = {name: read(value) for name, read, value in zip(names, decode, values, strict=True)}
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError) as error:
            log_unreadable(log.table.name, seq, describe_error(error))
            if faults is not None:
                faults.append(Fault(log.table.name, seq, describe_error(error)))
            continue
        records.append((seq, construct(**empty, **fields)))
    return records


def _stored_values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = (column.cast(pa.int64()) if column.type == _TIME else column).to_pylist()
    return values


def _decoder(column: sa.Column[Any]) -> Callable[[Any], Any]:
    match column.type:
        case Time():
            return lambda us: None if us is None else from_us(us)
        case JsonTuple():
            return lambda values: None if values is None else tuple(values)
        case Json() as json:
            return lambda text: json.process_result_value(text, _NO_DIALECT)
    return lambda value: value


def as_json(values: Sequence[str]) -> str:
    """Return a list as the log's own column has it."""
    return to_json(values).decode()
