"""The error of the data package: what is wrong with data or with its declaration. Light: no Ray."""

from pydantic_core import ErrorDetails


class DataError(ValueError):
    """Data, or a declaration of data, that cannot be used.

    The message is one line: what is wrong, where, and what would be right.
    """


class UnreadableError(ValueError):
    """A file that is not what it should be, said without its name: who opened it knows that."""


def reason(fault: ErrorDetails) -> str:
    """Return what pydantic found wrong, without the name of Python's exception that it puts before our own words."""
    return fault["msg"].removeprefix("Value error, ")
