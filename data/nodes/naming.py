"""Which rejects name a user: in the column that is the user's, or in a line that could not be parsed."""

import re
from collections.abc import Mapping

from data.errors import DataError
from data.nodes.node import load_node


def user_headers(node_id: str) -> list[str] | None:
    """Return the headers of the columns that a node declares to be the user's; None: its declaration is not known."""
    try:
        column = load_node(node_id).with_role("user")
    except DataError:
        return None
    return [column.header] if column else []


def names_user(
    record: Mapping[str, object], column: str | None, value: str | None, headers: list[str] | None, user_id: str
) -> bool:
    """Return whether a reject names a user.

    Args:
        record: the row as it was read, by header.
        column: the column whose value was wrong; None: the line could not be parsed.
        value: what was wrong.
        headers: as `user_headers` gives them; None: any value may be a user's id.
        user_id: the user.
    """
    if column is None and value is not None and re.search(rf"(?<!\w){re.escape(user_id)}(?!\w)", value):
        return True
    values = record.values() if headers is None else (record.get(header) for header in headers)
    return any(_is(value, user_id) for value in values)


def _is(value: object, user_id: str) -> bool:
    """Return whether a value as it was read is the user's id: where that is a number, 12347.0 is 12347."""
    text = str(value).strip()
    return text == user_id or (user_id.isdecimal() and text.removesuffix(".0") == user_id)
