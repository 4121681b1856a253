"""Whether a file has a node's columns, and which setting would read one that seems to lack them. No Ray."""

import re
from collections.abc import Sequence, Set

import pyarrow as pa

from data.errors import DataError
from data.nodes.convert import is_readable
from data.nodes.node import NodeSpec

HEAD_LINES = 100
"""Lines of a JSON Lines file that are looked at before it is read."""
MOST_NAMES = 30
"""Of columns that a message lists."""
DELIMITERS = ("::", "\t", ";", "|", ",")


def check_columns(names: Sequence[str], node: NodeSpec, uri: str, advice: str = "") -> None:
    """Raise DataError, with the advice, unless each of the node's columns is among a file's once."""
    absent = [column.header for column in node.columns if column.header not in names]
    if absent:
        raise DataError(
            f"{uri} lacks {'columns' if len(absent) > 1 else 'column'} {_quote(absent)} of node {node.name}; "
            f"it has {_quote(names)}{advice}"
        )
    twice = [column.header for column in node.columns if names.count(column.header) > 1]
    if twice:
        raise DataError(f"{uri} has more than one column {_quote(twice)}; node {node.name} needs exactly one")


def advice(names: Sequence[str], node: NodeSpec) -> str:
    """Return which setting would probably read a CSV file with such a first line, empty if none seems to."""
    headers = {column.header for column in node.columns}
    if any("\0" in name for name in names):
        return '; it looks like UTF-16: set encoding = "utf-16-le" (or -be) in [csv] of the node'
    if headers <= {name.strip() for name in names}:
        return "; set trim = true in [csv] of the node: there are blanks around its names"
    for sign in DELIMITERS:
        parts = [part for name in names for part in name.split(sign)]
        if sign != node.csv.delimiter and len(parts) > max(len(names), 1) and len(names) <= len(parts) // 2:
            written = sign.encode("unicode_escape").decode()
            return f'; it looks separated by "{written}": set delimiter = "{written}" in [csv] of the node' + (
                "" if headers & set(parts) else ", and header where its first line has no names"
            )
    if not headers & set(names) and any(re.fullmatch(r"[\d.,:TZ+ -]+", name) for name in names):
        return "; if that is a row, name the columns as header in [csv] of the node"
    return ""


def check_types(schema: pa.Schema, node: NodeSpec, uri: str) -> None:
    """Raise DataError if one of the node's columns is of a type that cannot be read."""
    for column in node.columns:
        kind = schema.field(column.header).type if column.header in schema.names else pa.string()
        if not is_readable(kind):
            raise DataError(f"column {column.header!r} of {uri} is a {kind}; expected text, a number, a bool or a time")


def check_keys(keys: Set[str], node: NodeSpec, uri: str) -> None:
    """Raise DataError if all of a file's first records would be rejected, or none has a key of the node.

    Other keys may come late or never: a missing one is a missing value.
    """
    needed = [column.header for column in node.columns if column.missing == "reject"]
    absent = [header for header in needed if header not in keys]
    if absent or not any(column.header in keys for column in node.columns):
        absent = absent or [column.header for column in node.columns]
        raise DataError(
            f"{uri} lacks {'keys' if len(absent) > 1 else 'key'} {_quote(absent)} of node {node.name} in its first "
            f"{HEAD_LINES} lines; they have {_quote(sorted(keys))}"
        )


def _quote(names: Sequence[str]) -> str:
    """Return names as they are, blanks and control characters included; of many, the first."""
    shown = ", ".join(map(repr, names[:MOST_NAMES]))
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
