"""JSON records as rows of text: what a line of a file and a record of a request have in common. No Ray."""

import json
import math
from collections.abc import Mapping, Sequence

import pyarrow as pa

from data.nodes.node import NodeSpec
from data.nodes.numeric import LARGEST_EXACT


def parse_line(line: bytes) -> object:
    """Return what a line of JSON holds; its text (or the repr of its bytes) where it is not JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # both bad JSON and bad UTF-8 are ValueErrors
        return line.decode(errors="backslashreplace")


def record_table(records: Sequence[Mapping[str, object]], node: NodeSpec) -> pa.Table:
    """Return [N] rows of text with the node's columns under their headers; an absent key is a missing value."""
    return pa.table(
        {
            column.header: pa.array([value_text(record.get(column.header)) for record in records], pa.string())
            for column in node.columns
        }
    )


def value_text(value: object) -> str | None:
    """Return a JSON value as text: a string as it is, NaN as missing, a whole float as an integer."""
    if value is None:
        return None
    if isinstance(value, str):
        # JSON can hold half of a surrogate pair, UTF-8 cannot.
        return value if value.isascii() else value.encode(errors="backslashreplace").decode()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) <= LARGEST_EXACT else repr(value)
    return json.dumps(value, default=str)
