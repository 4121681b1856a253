"""Numbers from text and from other numbers, whole arrays at a time; null where there is none."""

import pyarrow as pa
import pyarrow.compute as pc

# 17850.0 is how a float column writes a whole number.
WHOLE = r"^[+-]?0*\d{1,19}(\.0*)?$"
DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
LARGEST_INT = str(2**63 - 1)
LARGEST_EXACT = 2.0**53
"""Whole numbers up to here are themselves as floats; larger ones may be another's."""


def null_unless(keep: pa.Array, values: pa.Array) -> pa.Array:
    """Return the values where `keep`, null elsewhere."""
    return pc.if_else(keep.fill_null(False), values, pa.scalar(None, values.type))


def null_outside(values: pa.Array, low: float, high: float) -> pa.Array:
    """Return [N] numbers or times, null where one is not between the bounds, inclusive."""
    numbers = values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values
    found = pc.min_max(numbers)
    lowest, highest = found["min"].as_py(), found["max"].as_py()
    if lowest is None or (low <= lowest and highest <= high):  # as a rule, and found in one pass
        return values
    low, high = (pa.scalar(bound).cast(numbers.type, safe=False) for bound in (low, high))
    return null_unless(pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high)), values)


def to_whole(values: pa.Array) -> pa.Array:
    """Convert numbers and bools to int64; null where the value is not whole, or not exactly known."""
    if pa.types.is_signed_integer(values.type) or pa.types.is_boolean(values.type):
        return values.cast(pa.int64())
    if pa.types.is_unsigned_integer(values.type):
        values = values.cast(pa.uint64())
        return null_unless(pc.less_equal(values, pa.scalar(2**63 - 1, pa.uint64())), values).cast(pa.int64())
    if pa.types.is_decimal(values.type):
        return parse_whole(values.cast(pa.string()))
    numbers = values.cast(pa.float64())
    exact = pc.and_(pc.equal(numbers, pc.round(numbers)), pc.less_equal(pc.abs(numbers), LARGEST_EXACT))
    return null_unless(exact, numbers).cast(pa.int64())


def parse_whole(values: pa.Array) -> pa.Array:
    """Convert [N] strings to int64; null where one is no whole number of its range."""
    known = null_unless(pc.match_substring_regex(values, WHOLE), values)
    digits = pc.replace_substring_regex(pc.replace_substring_regex(known, r"\.0*$", ""), r"^\+|^([+-]?)0+(\d)", r"\1\2")
    size = pc.replace_substring(digits, "-", "")
    fits = pc.or_(pc.less(pc.utf8_length(size), len(LARGEST_INT)), pc.less_equal(size, LARGEST_INT))
    return null_unless(fits, digits).cast(pa.int64())


def parse_number(values: pa.Array) -> pa.Array:
    """Convert [N] strings to float64; null where one is no decimal number."""
    decimal = null_unless(pc.match_substring_regex(values, DECIMAL), values)
    return pc.replace_substring_regex(decimal, r"^\+", "").cast(pa.float64())


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is of numbers; a bool is none."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
