"""Raw values to a column's type, whole arrays at a time, with a mask of those that do not convert. Light: no Ray.

Text is dictionary-encoded first, so that each distinct value is parsed and checked once.
"""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from data.node import Column

TIMESTAMP = pa.timestamp("us", tz="UTC")
TEXT = pa.dictionary(pa.int32(), pa.string())
ARROW: dict[str, pa.DataType] = {
    "string": TEXT,
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
}
"""The Arrow type of each declared type while rows are being cleaned."""

# At most 18 digits, so that the cast cannot overflow; 17850.0 is how a float column writes a whole number.
WHOLE = r"^[+-]?\d{1,18}(\.0*)?$"
DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
EPOCH = {"epoch_s": 1_000_000, "epoch_ms": 1_000}
"""Microseconds in one unit of a numeric time."""


def convert(raw: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    """Convert a column.

    Args:
        raw: [N] strings (plain or dictionary), numbers, bools or timestamps, as `flat` gives them.
        column: its declaration.

    Returns:
        [N] values of `ARROW[column.type]`, null where missing or wrong, and [N] bool: the value is there but wrong.
    """
    if pa.types.is_dictionary(raw.type):
        distinct, wrong = _convert_flat(raw.dictionary, column)
        if column.type == "string":
            return _text(raw.indices, distinct), _at(wrong, raw.indices)
        return distinct.take(raw.indices), _at(wrong, raw.indices)
    values, wrong = _convert_flat(raw, column)
    return (values.dictionary_encode() if column.type == "string" else values), wrong


def flat(column: pa.ChunkedArray) -> pa.Array:
    """Return a raw column as one array, text as a dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode().unify_dictionaries()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks gives for a column without chunks
        return pa.array([], type=column.type)
    return array


def readable(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type can be read: text, numbers, bools, dates and times."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal,
        pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date, pa.types.is_null,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def text(values: pa.Array) -> pa.Array:
    """Return [N] strings of raw values: a whole float as an integer (17850.0 is "17850"), the rest as Arrow casts."""
    if pa.types.is_dictionary(values.type):
        return text(values.dictionary).take(values.indices)
    if pa.types.is_floating(values.type):
        whole = pc.and_(pc.equal(values, pc.round(values)), pc.less(pc.abs(values), 1e15))
        integers = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        return pc.coalesce(integers, values.cast(pa.string()))
    return values.cast(pa.string())


def encoded(values: pa.Array) -> pa.Array:
    """Return [N] dictionary of strings: raw values as text, each made once; none that no row has."""
    codes = values.indices.dictionary_encode() if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    distinct = values.dictionary.take(codes.dictionary) if pa.types.is_dictionary(values.type) else codes.dictionary
    return pa.DictionaryArray.from_arrays(codes.indices, text(distinct))


def _text(indices: pa.Array, distinct: pa.Array) -> pa.Array:
    """Return a dictionary array whose nulls are in its indices, also where the distinct value is a null."""
    if distinct.null_count:
        indices = pc.if_else(_at(pc.is_null(distinct), indices), None, indices)
        distinct = distinct.fill_null("")
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int32()), distinct.cast(pa.string()))


def _at(flags: pa.Array, indices: pa.Array) -> pa.Array:
    """Return the flags of the distinct values at the indices; a null index has none."""
    if not pc.any(flags, min_count=0).as_py():
        return pa.repeat(pa.scalar(False), len(indices))
    return flags.take(indices).fill_null(False)


def _convert_flat(raw: pa.Array, column: Column) -> tuple[pa.Array, pa.Array]:
    missing = _is_missing(raw)
    given = pc.if_else(missing, pa.scalar(None, raw.type), raw) if pc.any(missing, min_count=0).as_py() else raw
    target = pa.string() if column.type == "string" else ARROW[column.type]
    if pa.types.is_null(raw.type):
        values = pa.nulls(len(raw), target)
    elif column.type == "string":
        values = text(given)
    elif pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        values = _parse(pc.utf8_trim_whitespace(given.cast(pa.string())), column)
    else:
        values = _cast(given, column)
    return values, pc.and_not(pc.is_null(values), missing)


def _is_missing(raw: pa.Array) -> pa.Array:
    """Return [N] bool: a null, a NaN or blank text."""
    if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        return pc.or_(pc.is_null(raw), pc.equal(pc.utf8_trim_whitespace(raw), "").fill_null(False))
    return pc.is_null(raw, nan_is_null=True) if pa.types.is_floating(raw.type) else pc.is_null(raw)


def _cast(values: pa.Array, column: Column) -> pa.Array:
    """Convert numbers, bools and times; null where the value is not one of the column's type."""
    if column.type == "timestamp":
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            return values.cast(TIMESTAMP, safe=False)  # to microseconds: finer digits are cut off
        return _from_epoch(values, column) if _is_number(values.type) else pa.nulls(len(values), TIMESTAMP)
    if column.type == "bool":
        if pa.types.is_boolean(values.type):
            return values
        flags = pc.is_in(values, pa.array([0, 1]).cast(values.type)) if _is_number(values.type) else None
        if flags is None:
            return pa.nulls(len(values), pa.bool_())
        return pc.if_else(flags, values, pa.scalar(None, values.type)).cast(pa.bool_())
    if not (_is_number(values.type) or pa.types.is_boolean(values.type)):
        return pa.nulls(len(values), ARROW[column.type])
    if column.type == "int" and (pa.types.is_signed_integer(values.type) or pa.types.is_boolean(values.type)):
        return values.cast(pa.int64())
    numbers = values.cast(pa.float64(), safe=False)
    if column.type == "float":
        return _only(pc.is_finite(numbers), numbers)
    whole = pc.and_(pc.equal(numbers, pc.round(numbers)), pc.less(pc.abs(numbers), 1e18))
    return _only(whole, numbers).cast(pa.int64())


def _parse(values: pa.Array, column: Column) -> pa.Array:
    """Convert text without blanks around it; null where it is not a value of the column's type."""
    if column.type == "int":
        whole = _only(pc.match_substring_regex(values, WHOLE), values)
        return pc.replace_substring_regex(whole, r"^\+|\.0*$", "").cast(pa.int64())
    if column.type == "float":
        decimal = _only(pc.match_substring_regex(values, DECIMAL), values)
        return _cast(pc.replace_substring_regex(decimal, r"^\+", "").cast(pa.float64()), column)
    if column.type == "bool":
        lower = pc.utf8_lower(values)
        flag = pc.is_in(lower, pa.array(["true", "1"]))
        return _only(pc.or_(flag, pc.is_in(lower, pa.array(["false", "0"]))), flag)
    if column.format in EPOCH:
        return _from_epoch(_parse(values, column.model_copy(update={"type": "float"})), column)
    return _parse_format(values, column.format) if column.format else _parse_iso(values)


def _parse_iso(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.timestamp("us")).cast(TIMESTAMP)
    except pa.ArrowInvalid:  # an offset or a fault somewhere: one by one
        return pa.array([_moment(value) for value in values.to_pylist()], TIMESTAMP)


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter: beyond the years 1 to 9999 in UTC
        return None


def _parse_format(values: pa.Array, form: str) -> pa.Array:
    moments = pc.strptime(values, format=form, unit="us", error_is_null=True)
    # Arrow turns February 30 into March 2: where the day is 1 to 3, Python's parser has the last word.
    early = pc.less_equal(pc.day(moments), 3).fill_null(False)
    real = pa.array([_exists(value, form) for value in values.filter(early).to_pylist()], pa.bool_())
    checked = pc.replace_with_mask(pa.repeat(pa.scalar(True), len(values)), early, real)
    return _only(checked, moments).cast(TIMESTAMP)


def _exists(value: str, form: str) -> bool:
    try:
        datetime.strptime(value, form)
    except ValueError:
        return False
    return True


def _from_epoch(numbers: pa.Array, column: Column) -> pa.Array:
    """Convert seconds or milliseconds since 1970; numbers of a column that declares neither are no times."""
    if column.format not in EPOCH:
        return pa.nulls(len(numbers), TIMESTAMP)
    micros = pc.round(pc.multiply(numbers.cast(pa.float64(), safe=False), float(EPOCH[column.format])))
    return _only(pc.less(pc.abs(micros), 2.5e17), micros).cast(pa.int64()).cast(TIMESTAMP)


def _only(keep: pa.Array, values: pa.Array) -> pa.Array:
    """Return the values where `keep`, null elsewhere."""
    return pc.if_else(keep.fill_null(False), values, pa.scalar(None, values.type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
