"""Raw values to a column's type, whole arrays at a time, with a mask of those that do not convert. Light: no Ray.

Text is dictionary-encoded first, so that each distinct value is parsed and checked once.
"""

import re
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from data.dialect import Text
from data.node import EPOCHS, IDENTIFIERS, Column

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

# 17850.0 is how a float column writes a whole number.
WHOLE = r"^[+-]?0*\d{1,19}(\.0*)?$"
DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
LARGEST_INT = str(2**63 - 1)
LARGEST_FLOAT = 1e15
"""In absolute value, as in features; beyond, sums of squares lose what a policy or a scaler would learn."""
LARGEST_EXACT = 2.0**53
"""Whole numbers up to here are themselves as floats; larger ones may be another's."""
NOT_A_NUMBER = ("nan", "nat")
"""Text, in any case, that is a missing number or time: how pandas and numpy write it."""
FIRST_S, LAST_S = (int(datetime(*day, tzinfo=UTC).timestamp()) for day in ((1, 1, 1), (9999, 12, 31, 23, 59, 59)))
"""Seconds since 1970 of the first and the last second that Python has."""
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
PLAIN = re.compile(r"(?:[^%]|%[YmdHMSyBbpI%])*")
"""Formats that Arrow reads as Python does, but for days that a month does not have."""
FRACTION = re.compile(r"(.*[^%])([.,:])%f", re.DOTALL)
"""Formats that end with a fraction of a second, which Arrow does not read."""


def convert(raw: pa.Array, column: Column, written: Text | None = None) -> tuple[pa.Array, pa.Array]:
    """Convert a column.

    Args:
        raw: [N] strings (plain or dictionary), numbers, bools or timestamps, as `flat` gives them.
        column: its declaration.
        written: how values are written that are text.

    Returns:
        [N] values of `ARROW[column.type]`, null where missing or wrong, and [N] bool: the value is there but wrong.
    """
    written = written or Text()
    if pa.types.is_dictionary(raw.type):
        distinct, wrong = _convert_flat(raw.dictionary, column, written)
        if column.type == "string":
            return _text(raw.indices, distinct), _at(wrong, raw.indices)
        return distinct.take(raw.indices), _at(wrong, raw.indices)
    values, wrong = _convert_flat(raw, column, written)
    return (values.dictionary_encode() if column.type == "string" else values), wrong


def flat(column: pa.ChunkedArray) -> pa.Array:
    """Return a raw column as one array, text as a dictionary."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode().unify_dictionaries()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks gives for a column without chunks
        array = pa.array([], type=column.type)
    return array.cast(pa.float32()) if pa.types.is_float16(array.type) else array  # few kernels take a half


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


def _convert_flat(raw: pa.Array, column: Column, written: Text) -> tuple[pa.Array, pa.Array]:
    missing = _is_missing(raw, column, written)
    given = pc.if_else(missing, pa.scalar(None, raw.type), raw) if pc.any(missing, min_count=0).as_py() else raw
    target = pa.string() if column.type == "string" else ARROW[column.type]
    if pa.types.is_null(raw.type):
        values = pa.nulls(len(raw), target)
    elif column.type == "string":
        values = text(given)
        if column.role in IDENTIFIERS and pa.types.is_floating(raw.type):
            values = _only(pc.less_equal(pc.abs(given), LARGEST_EXACT), values)
    elif _is_text(raw.type):
        values = _read(pc.utf8_trim_whitespace(given.cast(pa.string())), column, written)
    else:
        values = _cast(given, column)
    if column.type == "timestamp":
        values = _only(_within(values, "us"), values)
    elif column.type == "float":
        values = _only(pc.less_equal(pc.abs(values), LARGEST_FLOAT), values)
    return values, pc.and_not(pc.is_null(values), missing)


def _is_missing(raw: pa.Array, column: Column, written: Text) -> pa.Array:
    """Return [N] bool: a null, a NaN, blank text, or a word for it."""
    if not _is_text(raw.type):
        return pc.is_null(raw, nan_is_null=True) if pa.types.is_floating(raw.type) else pc.is_null(raw)
    words = pc.utf8_trim_whitespace(raw)
    missing = pc.is_in(words, pa.array(["", *written.missing], raw.type))
    if column.type != "string":
        missing = pc.or_(missing, pc.is_in(pc.utf8_lower(words), pa.array(NOT_A_NUMBER, raw.type)))
    return pc.or_(pc.is_null(raw), missing.fill_null(False))


def _cast(values: pa.Array, column: Column) -> pa.Array:
    """Convert numbers, bools and times; null where the value is not one of the column's type."""
    if column.type == "timestamp":
        if pa.types.is_date(values.type):  # days or milliseconds
            values = values.cast(pa.timestamp("s" if pa.types.is_date32(values.type) else "ms"))
        if pa.types.is_timestamp(values.type):
            known = _only(_within(values, values.type.unit), values)
            return known.cast(TIMESTAMP, safe=False)  # to microseconds: finer digits are cut off
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
    return values.cast(pa.float64(), safe=False) if column.type == "float" else _whole(values)


def _whole(values: pa.Array) -> pa.Array:
    """Convert numbers and bools to int64; null where the value is not whole, or not exactly known."""
    if pa.types.is_signed_integer(values.type) or pa.types.is_boolean(values.type):
        return values.cast(pa.int64())
    if pa.types.is_unsigned_integer(values.type):
        values = values.cast(pa.uint64())
        return _only(pc.less_equal(values, pa.scalar(2**63 - 1, pa.uint64())), values).cast(pa.int64())
    if pa.types.is_decimal(values.type):
        return _parse_whole(values.cast(pa.string()))
    numbers = values.cast(pa.float64())
    exact = pc.and_(pc.equal(numbers, pc.round(numbers)), pc.less_equal(pc.abs(numbers), LARGEST_EXACT))
    return _only(exact, numbers).cast(pa.int64())


def _read(values: pa.Array, column: Column, written: Text) -> pa.Array:
    """Convert text without blanks around it; null where it is not a value of the column's type."""
    if column.words is not None:
        known = pa.array([*column.words], pa.string())
        worth = pa.array([*column.words.values()], pa.float64()).cast(ARROW[column.type])
        return worth.take(pc.index_in(values, known))
    if column.type == "bool":
        lower = pc.utf8_lower(values)
        flag = pc.is_in(lower, pa.array(["true", "1"]))
        return _only(pc.or_(flag, pc.is_in(lower, pa.array(["false", "0"]))), flag)
    if column.type == "timestamp" and column.format not in EPOCHS:
        return _parse_format(values, column.format) if column.format else _parse_iso(values)
    if written.decimal != ".":
        values = _only(pc.invert(pc.match_substring(values, ".")), values)
        values = pc.replace_substring(values, written.decimal, ".")
    if column.type == "int":
        return _parse_whole(values)
    if column.type == "timestamp":
        whole = _parse_whole(values)
        return pc.coalesce(_from_epoch(whole, column), _from_epoch(_parse_number(values), column))
    return _parse_number(values)


def _parse_whole(values: pa.Array) -> pa.Array:
    whole = _only(pc.match_substring_regex(values, WHOLE), values)
    digits = pc.replace_substring_regex(pc.replace_substring_regex(whole, r"\.0*$", ""), r"^\+|^([+-]?)0+(\d)", r"\1\2")
    size = pc.replace_substring(digits, "-", "")
    fits = pc.or_(pc.less(pc.utf8_length(size), len(LARGEST_INT)), pc.less_equal(size, LARGEST_INT))
    return _only(fits, digits).cast(pa.int64())


def _parse_number(values: pa.Array) -> pa.Array:
    decimal = _only(pc.match_substring_regex(values, DECIMAL), values)
    return pc.replace_substring_regex(decimal, r"^\+", "").cast(pa.float64())


def _parse_iso(values: pa.Array) -> pa.Array:
    try:
        return values.cast(pa.timestamp("us")).cast(TIMESTAMP)
    except pa.ArrowInvalid:  # an offset or a fault somewhere: one by one
        return pa.array([_moment(value) for value in values.to_pylist()], TIMESTAMP)


def _parse_format(values: pa.Array, form: str) -> pa.Array:
    if fraction := FRACTION.fullmatch(form):
        return _parse_fraction(values, *fraction.groups())
    if not PLAIN.fullmatch(form):
        return pa.array([_moment(value, form) for value in values.to_pylist()], TIMESTAMP)
    moments = pc.strptime(values, format=form, unit="us", error_is_null=True)
    # Arrow turns February 30 into March 2: where the day is 1 to 3, Python's parser has the last word.
    early = pc.less_equal(pc.day(moments), 3).fill_null(False)
    real = pa.array([_moment(value, form) is not None for value in values.filter(early).to_pylist()], pa.bool_())
    checked = pc.replace_with_mask(pa.repeat(pa.scalar(True), len(values)), early, real)
    return _only(checked, moments).cast(TIMESTAMP)


def _parse_fraction(values: pa.Array, form: str, sign: str) -> pa.Array:
    """Convert times that end with 1 to 9 digits of a second after a sign; finer ones than microseconds are cut off."""
    parts = pc.extract_regex(values, rf"(?s)^(?P<time>.*)[{sign}](?P<fraction>\d{{1,9}})$")
    digits = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.struct_field(parts, "fraction"), 6, "0"), 0, 6)
    seconds = _parse_format(pc.struct_field(parts, "time"), form)
    return pc.add(seconds, digits.cast(pa.int64()).cast(pa.duration("us")))


def _moment(value: str | None, form: str | None = None) -> datetime | None:
    """Return the time that a text is, in UTC where it has no offset; None where it is none."""
    if value is None:
        return None
    try:
        moment = datetime.strptime(value, form) if form else datetime.fromisoformat(value)
        # Day 366 of a year that has 365 would be a day of the next.
        years = [moment.strftime(sign) for sign in ("%Y", "%y", "%G") if form and sign in form]
        if not all(year in value for year in years):
            return None
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter: beyond the years 1 to 9999 in UTC
        return None


def _from_epoch(numbers: pa.Array, column: Column) -> pa.Array:
    """Convert units of time since 1970; numbers of a column that declares no unit are no times."""
    if column.format not in EPOCHS:
        return pa.nulls(len(numbers), TIMESTAMP)
    factor = EPOCHS[column.format]
    if pa.types.is_integer(numbers.type):
        numbers = _whole(numbers)
    else:
        numbers, factor = pc.round(pc.multiply(numbers.cast(pa.float64(), safe=False), float(factor))), 1
    low, high = (
        pa.scalar(second * UNITS["us"] // factor).cast(numbers.type, safe=False) for second in (FIRST_S, LAST_S)
    )
    known = pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high))
    return pc.multiply(_only(known, numbers).cast(pa.int64()), factor).cast(TIMESTAMP)


def _within(times: pa.Array, unit: str) -> pa.Array:
    """Return [N] bool: the time is within the years 1 to 9999."""
    ticks = times.cast(pa.timestamp(unit)).cast(pa.int64())
    low, high = max(FIRST_S * UNITS[unit], -(2**63)), min((LAST_S + 1) * UNITS[unit], 2**63) - 1
    return pc.and_(pc.greater_equal(ticks, low), pc.less_equal(ticks, high))


def _only(keep: pa.Array, values: pa.Array) -> pa.Array:
    """Return the values where `keep`, null elsewhere."""
    return pc.if_else(keep.fill_null(False), values, pa.scalar(None, values.type))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
