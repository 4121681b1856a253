"""Raw rows to events and rejects: types, missing values, rules and ids, the same for files and for HTTP. No Ray."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data.nodes.columns import events_schema, rejects_schema
from data.nodes.convert import (
    TEXT,
    convert,
    encode_text,
    flatten_column,
)
from data.nodes.digest import digest_rows, hexadecimal
from data.nodes.node import (
    IDENTIFIERS,
    Column,
    Fill,
    NodeSpec,
    Rule,
)
from data.nodes.scaler import Scaler

MALFORMED = "malformed row"
RECORD = "record."
"""Begins the names of the columns, among the rejects, that hold the row as it was read."""
ID_LENGTH = 256
"""Characters of an id, at most; none of them is a control character: as in `schema.Id`."""
COMPARE = {"gt": pc.greater, "ge": pc.greater_equal, "lt": pc.less, "le": pc.less_equal}


@dataclass(frozen=True)
class Cleaned:
    """What became of raw rows; `read` is the sum of the accepted, the rejected and the dropped."""

    events: pa.Table
    """[M] accepted rows in their order: `digest`, then the columns by their stored names, text as dictionaries."""
    accepted: npt.NDArray[np.int64]
    """[M] which rows these were."""
    rejects: pa.Table
    """Rows that broke a rule, in their order: `digest`, then the columns of `rejects_schema`, text as dictionaries;
    `record` is a column for each header."""
    read: int
    dropped: dict[str, int]
    """Rows left out for a missing value, by column."""
    rejected: dict[str, int]
    """Rows rejected, by the first rule that they broke."""


@dataclass(frozen=True)
class _Check:
    rule: str
    column: Column | None
    failed: npt.NDArray[np.bool_]
    drops: bool = False


def clean(
    raw: pa.Table, node: NodeSpec, source: str, rows: pa.Array | None = None, malformed: pa.Array | None = None
) -> Cleaned:
    """Check and convert raw rows, each on its own: what is wrong with one does not touch the others.

    Args:
        raw: [N] rows with the node's columns under their headers, as text or typed.
        node: the declaration.
        source: where the rows come from, for the rejects.
        rows: [N] int64 positions in the source; default 0 to N - 1.
        malformed: [N] strings: the text of a line that could not be parsed, null for the others.
    """
    count = raw.num_rows
    rows = pa.array(np.arange(count)) if rows is None else rows
    raw_values = {column.name: flatten_column(raw[column.header]) for column in node.columns}
    values: dict[str, pa.Array] = {}
    checks: list[_Check] = []
    if malformed is not None and malformed.null_count < count:
        checks.append(_Check(MALFORMED, None, _mask(pc.is_valid(malformed))))
    for column in node.columns:
        values[column.name], wrong = convert(raw_values[column.name], column, node.text)
        failed = _mask(wrong) | _no_id(values[column.name], column)
        checks.append(_Check(f"type of {column.name}", column, failed))
    for column in node.columns:
        if isinstance(column.missing, Fill):
            values[column.name] = _fill_missing(values[column.name], column.missing)
        elif column.missing != "keep":
            absent = _mask(pc.is_null(values[column.name]))
            checks.append(_Check(f"{column.name} present", column, absent, drops=column.missing == "drop"))
    for rule in node.rules:
        checks.append(_Check(rule.name, node.column(rule.column), _find_broken(values[rule.column], rule)))

    first = _first_failure(checks, count)
    counts = np.bincount(first, minlength=len(checks) + 1)
    tallies = [(check, int(number)) for check, number in zip(checks, counts, strict=False) if number]
    accepted = np.flatnonzero(first == len(checks))
    drops = np.array([check.drops for check in checks] + [True])
    return Cleaned(
        events=_events(values, node, accepted),
        accepted=accepted,
        rejects=_rejects(raw_values, node, checks, first, np.flatnonzero(~drops[first]), source, rows, malformed),
        read=count,
        dropped={check.column.name: number for check, number in tallies if check.drops and check.column},
        rejected={check.rule: number for check, number in tallies if not check.drops},
    )


def finish_events(events: pa.Table, node: NodeSpec, scaler: Scaler | None, encoded_text: bool = False) -> pa.Table:
    """Give accepted rows their event ids and scaled values: the table that is stored, by `events_schema`.

    Args:
        events: [N] rows of `Cleaned.events`.
        node: the declaration.
        scaler: None leaves the scaled values missing: nothing has been fitted yet.
        encoded_text: leave text other than the ids in dictionaries, which Parquet is written from as they are.
    """
    columns = {name: events[name].combine_chunks() for name in events.column_names}
    digest = columns.pop("digest")
    ids = columns.pop("event_id", None)
    columns["event_id"] = hexadecimal(digest) if ids is None else ids.cast(pa.string())
    for column in node.scaled_columns:
        if scaler:
            columns[f"{column.stored_name}_scaled"] = scaler.apply(column.name, columns[column.stored_name])
    if scaler and node.scaled_columns:
        columns["scaler_version"] = pa.repeat(pa.scalar(scaler.version, pa.int32()), len(digest))
    return _table(columns, events_schema(node), len(digest), encoded_text)


def finish_rejects(rejects: pa.Table, node: NodeSpec, encoded_text: bool = False) -> pa.Table:
    """Give rejects their ids: the table that is stored, by `rejects_schema`; `encoded_text` as in `finish_events`."""
    columns = {name: rejects[name].combine_chunks() for name in rejects.column_names}
    columns["reject_id"] = hexadecimal(columns["digest"])
    record = {column.header: columns[RECORD + column.header] for column in node.columns}
    columns["record"] = pa.StructArray.from_arrays(list(record.values()), names=list(record))
    return _table(columns, rejects_schema(node), rejects.num_rows, encoded_text)


def _table(columns: dict[str, pa.Array], schema: pa.Schema, count: int, encoded_text: bool) -> pa.Table:
    """Return the columns in the order and with the types of a schema, an absent one as nulls."""
    arrays = []
    for field in schema:
        array = columns.get(field.name, pa.nulls(count, field.type))
        keeps = encoded_text and (pa.types.is_dictionary(array.type) or pa.types.is_struct(array.type))
        arrays.append(array if keeps else array.cast(field.type))
    return pa.Table.from_arrays(arrays, names=schema.names)


def _first_failure(checks: list[_Check], count: int) -> npt.NDArray[np.int64]:
    """Return [N] the number of the first check that each row failed, `len(checks)` where it failed none."""
    first = np.full(count, len(checks), dtype=np.int64)
    for number in range(len(checks) - 1, -1, -1):
        first[checks[number].failed] = number
    return first


def _find_broken(values: pa.Array, rule: Rule) -> npt.NDArray[np.bool_]:
    """Return [N] where the rule does not hold; it says nothing about a missing value."""
    if pa.types.is_dictionary(values.type):
        distinct = _find_broken(values.dictionary, rule)
        if not distinct.any():
            return np.zeros(len(values), dtype=np.bool_)
        return _mask(pa.array(distinct).take(values.indices).fill_null(False))
    if rule.pattern is not None:
        holds = pc.match_substring_regex(values, rule.pattern)
    elif rule.one_of is not None:
        holds = pc.is_in(values, pa.array(rule.one_of, type=values.type))
    else:
        holds = COMPARE[rule.test](values, getattr(rule, rule.test))
    return _mask(pc.and_not(pc.is_valid(values), holds.fill_null(True)))


def _no_id(values: pa.Array, column: Column) -> npt.NDArray[np.bool_] | np.bool_:
    """Return [N] where an id is longer than the contract allows, or has characters that it does not."""
    if column.role not in IDENTIFIERS or not pa.types.is_dictionary(values.type):
        return np.False_
    long = pc.greater(pc.utf8_length(values.dictionary), ID_LENGTH)
    wrong = pc.or_(long, pc.match_substring_regex(values.dictionary, r"\p{Cc}"))
    if not pc.any(wrong, min_count=0).as_py():
        return np.False_
    return _mask(wrong.take(values.indices).fill_null(False))


def _fill_missing(values: pa.Array, missing: Fill) -> pa.Array:
    if not values.null_count:
        return values
    if not pa.types.is_dictionary(values.type):
        return values.fill_null(missing.fill)
    dictionary = pa.concat_arrays([values.dictionary, pa.array([missing.fill], pa.string())])
    return pa.DictionaryArray.from_arrays(values.indices.fill_null(len(dictionary) - 1), dictionary)


def _events(values: dict[str, pa.Array], node: NodeSpec, accepted: npt.NDArray[np.int64]) -> pa.Table:
    index = pa.array(accepted)
    values = {name: column.take(index) for name, column in values.items()}
    values |= {c.name: encode_text(values[c.name]) for c in node.columns if c.type == "string"}
    key = node.with_role("key")
    columns = {"digest": digest_rows([values[key.name]] if key else list(values.values()))}
    for column in node.columns:
        is_number = column.role in IDENTIFIERS and column.type != "string"
        columns[column.stored_name] = encode_text(values[column.name]) if is_number else values[column.name]
    return pa.table(columns)


def _rejects(
    raw_values: dict[str, pa.Array],
    node: NodeSpec,
    checks: list[_Check],
    first: npt.NDArray[np.int64],
    rejected: npt.NDArray[np.int64],
    source: str,
    rows: pa.Array,
    malformed: pa.Array | None,
) -> pa.Table:
    """Build the rejects: the raw row as text, with the first check it failed and the value that failed it."""
    index = pa.array(rejected)
    record = {column.header: encode_text(raw_values[column.name].take(index)) for column in node.columns}
    failed = first[rejected]
    names = pa.array([check.column.name if check.column else None for check in checks], pa.string())
    value = pa.nulls(len(rejected), pa.string()) if malformed is None else malformed.take(index)
    for column in node.columns:
        own = np.array([check.column is column for check in checks], dtype=np.bool_)[failed]
        if own.any():
            value = pc.if_else(pa.array(own), record[column.header].cast(pa.string()), value)
    positions = rows.take(index)
    value = value.dictionary_encode()
    columns = {
        "digest": digest_rows([positions, value, *record.values()], prefix=source.encode()),
        "source": pa.DictionaryArray.from_arrays(np.zeros(len(rejected), np.int32), pa.array([source])),
        "row": positions,
        "rule": _to_dictionary(failed, pa.array([check.rule for check in checks], pa.string())),
        "column": _to_dictionary(failed, names),
        "value": value,
    } | {RECORD + header: texts for header, texts in record.items()}
    return pa.table(columns)


def _to_dictionary(codes: npt.NDArray[np.int64], names: pa.Array) -> pa.Array:
    """Return [N] dictionary strings: the names at the codes."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), names).cast(TEXT)


def _mask(flags: pa.Array) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = flags.to_numpy(zero_copy_only=False)
    return mask
