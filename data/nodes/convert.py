"""Raw values to a column's type, whole arrays at a time, with a mask of those that do not convert.

Text is dictionary-encoded first, so that each distinct value is parsed and checked once.
"""

import pyarrow as pa
import pyarrow.compute as pc

from data.feature_objects import MAX_NUMBER
from data.nodes.dialect import Text
from data.nodes.node import EPOCHS, IDENTIFIERS, Column
from data.nodes.numeric import (
    LARGEST_EXACT,
    is_number,
    null_outside,
    null_unless,
    parse_number,
    parse_whole,
    to_whole,
)
from data.nodes.times import (
    TIMESTAMP,
    from_epoch,
    null_outside_years,
    parse_times,
)

TEXT = pa.dictionary(pa.int32(), pa.string())
ARROW: dict[str, pa.DataType] = {
    "string": TEXT,
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
}
"""The Arrow type of each declared type while rows are being cleaned."""

NOT_A_NUMBER = ("nan", "nat")
"""Text, in any case, that is a missing number or time: how pandas and numpy write it."""


def convert(raw: pa.Array, column: Column, dialect: Text | None = None) -> tuple[pa.Array, pa.Array]:
    """Convert a column.

    Args:
        raw: [N] strings (plain or dictionary), numbers, bools or timestamps, as `flatten_column` gives them.
        column: its declaration.
        dialect: how values are written that are text.

    Returns:
        [N] values of `ARROW[column.type]`, null where missing or wrong, and [N] bool: the value is there but wrong.
    """
    dialect = dialect or Text()
    if pa.types.is_dictionary(raw.type):
        distinct, wrong = _convert_flat(raw.dictionary, column, dialect)
        if column.type == "string":
            return _to_dictionary(raw.indices, distinct), _flags_at(wrong, raw.indices)
        return distinct.take(raw.indices), _flags_at(wrong, raw.indices)
    values, wrong = _convert_flat(raw, column, dialect)
    return (values.dictionary_encode() if column.type == "string" else values), wrong


def flatten_column(column: pa.ChunkedArray) -> pa.Array:
    """Return a raw column as one array, text as a dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode().unify_dictionaries()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks gives for a column without chunks
        array = pa.array([], type=column.type)
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array  # few kernels take a half


def is_readable(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type can be read: text, numbers, bools, dates and times."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
        pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date, pa.types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def to_text(values: pa.Array) -> pa.Array:
    """Return [N] strings of raw values: a whole float as an integer (17850.0 is "17850"), the rest as Arrow casts."""
    if pa.types.is_dictionary(values.type):
        return to_text(values.dictionary).take(values.indices)
    if pa.types.is_floating(values.type):
        is_whole = pc.and_(pc.equal(values, pc.round(values)), pc.less_equal(pc.abs(values), LARGEST_EXACT))
        integers = pc.if_else(is_whole, values, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(integers, values.cast(pa.string()))
    return values.cast(pa.string())


def encode_text(values: pa.Array) -> pa.Array:
    """Return [N] dictionary of strings: raw values as text, each made once; none that no row has."""
    codes = values.indices.dictionary_encode() if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    distinct = values.dictionary.take(codes.dictionary) if pa.types.is_dictionary(values.type) else codes.dictionary
    return pa.DictionaryArray.from_arrays(codes.indices, to_text(distinct))


def _to_dictionary(indices: pa.Array, distinct: pa.Array) -> pa.Array:
    """Return a dictionary array whose nulls are in its indices, also where the distinct value is a null."""
    if distinct.null_count:
        indices = pc.if_else(_flags_at(pc.is_null(distinct), indices), None, indices)
        distinct = distinct.fill_null("")
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), distinct.cast(pa.string()))


def _flags_at(flags: pa.Array, indices: pa.Array) -> pa.Array:
    """Return the flags of the distinct values at the indices; a null index has none."""
    if not pc.any(flags, min_count=0).as_py():
        return pa.repeat(pa.scalar(False), len(indices))
    return flags.take(indices).fill_null(False)


def _convert_flat(raw: pa.Array, column: Column, dialect: Text) -> tuple[pa.Array, pa.Array]:
    missing = _is_missing(raw, column, dialect)
    present = pc.if_else(missing, pa.scalar(None, raw.type), raw) if pc.any(missing, min_count=0).as_py() else raw
    target = pa.string() if column.type == "string" else ARROW[column.type]
    if pa.types.is_null(raw.type):
        values = pa.nulls(len(raw), target)
    elif column.type == "string":
        values = to_text(present)
        if column.role in IDENTIFIERS and pa.types.is_floating(raw.type):
            values = null_unless(pc.less_equal(pc.abs(present), LARGEST_EXACT), values)
    elif _is_text(raw.type):
        values = _parse_text(pc.utf8_trim_whitespace(present.cast(pa.string())), column, dialect)
    else:
        values = _cast(present, column)
    if column.type == "float":
        values = null_outside(values, -MAX_NUMBER, MAX_NUMBER)
    return values, pc.and_not(pc.is_null(values), missing)


def _is_missing(raw: pa.Array, column: Column, dialect: Text) -> pa.Array:
    """Return [N] bool: a null, a NaN, blank text, or a word for it."""
    if not _is_text(raw.type):
        return pc.is_null(raw, nan_is_null=True) if pa.types.is_floating(raw.type) else pc.is_null(raw)
    words = pc.utf8_trim_whitespace(raw)
    missing = pc.is_in(words, pa.array(["", *dialect.missing], raw.type))
    if column.type != "string":
        missing = pc.or_(missing, pc.is_in(pc.utf8_lower(words), pa.array(NOT_A_NUMBER, raw.type)))
    return pc.or_(pc.is_null(raw), missing.fill_null(False))


def _cast(values: pa.Array, column: Column) -> pa.Array:
    """Convert numbers, bools and times; null where the value is not one of the column's type."""
    if column.type == "timestamp":
        if pa.types.is_date(values.type):  # days or milliseconds
            values = values.cast(pa.timestamp("s" if pa.types.is_date32(values.type) else "ms"))
        if pa.types.is_timestamp(values.type):
            return null_outside_years(values).cast(TIMESTAMP, safe=False)  # to microseconds: finer digits are cut off
        return from_epoch(values, column.format) if is_number(values.type) else pa.nulls(len(values), TIMESTAMP)
    if column.type == "bool":
        if pa.types.is_boolean(values.type):
            return values
        flags = pc.is_in(values, pa.array([0, 1]).cast(values.type)) if is_number(values.type) else None
        if flags is None:
            return pa.nulls(len(values), pa.bool_())
        return pc.if_else(flags, values, pa.scalar(None, values.type)).cast(pa.bool_())
    if not (is_number(values.type) or pa.types.is_boolean(values.type)):
        return pa.nulls(len(values), ARROW[column.type])
    return values.cast(pa.float64(), safe=False) if column.type == "float" else to_whole(values)


def _parse_text(values: pa.Array, column: Column, dialect: Text) -> pa.Array:
    """Convert text without blanks around it; null where it is not a value of the column's type."""
    if column.words is not None:
        known = pa.array([*column.words], pa.string())
        word_values = pa.array([*column.words.values()], pa.float64()).cast(ARROW[column.type])
        numbers = _parse_text(values, column.model_copy(update={"words": None}), dialect)
        return pc.coalesce(word_values.take(pc.index_in(values, known)), numbers)
    if column.type == "bool":
        lower = pc.utf8_lower(values)
        flag = pc.is_in(lower, pa.array(["true", "1"]))
        return null_unless(pc.or_(flag, pc.is_in(lower, pa.array(["false", "0"]))), flag)
    if column.type == "timestamp" and column.format not in EPOCHS:
        return parse_times(values, column.format)
    if dialect.decimal != ".":
        values = null_unless(pc.invert(pc.match_substring(values, ".")), values)
        values = pc.replace_substring(values, dialect.decimal, ".")
    if column.type == "int":
        return parse_whole(values)
    if column.type == "timestamp":
        integers = parse_whole(values)  # as a float a large one would not be exact
        parts = null_unless(pc.is_null(integers), parse_number(values))
        return pc.coalesce(from_epoch(integers, column.format), from_epoch(parts, column.format))
    return parse_number(values)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
