"""Ids outside of bodies: in paths, and in the header `Idempotency-Key`."""

from typing import Annotated

from fastapi import Path, Request
from pydantic import AfterValidator, TypeAdapter, ValidationError
from starlette.convertors import Convertor, register_url_convertor

from data.errors import reason
from data.fields import ID_LENGTH, Id
from serve.contracts.errors import ERRORS

_ID = TypeAdapter[str](Id)


class _Rest(Convertor[str]):
    """The rest of a path, whatever is in it: `{user_id:rest}`. Starlette's `path` ends at a line break."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def register() -> None:
    """Let routes have `{name:rest}`; before the first of them is made."""
    register_url_convertor("rest", _Rest())


def refuse_nul(given: str) -> str:
    """Return an id that is looked up, if it can be one: PostgreSQL's texts have no NUL.

    Raises:
        ValueError: it has one.
    """
    if "\0" in given:
        raise ValueError("no id has the character NUL")
    return given


KnownId = Annotated[str, Path(min_length=1, max_length=ID_LENGTH), AfterValidator(refuse_nul)]
"""An id that is looked up: rows of earlier logs may have one that `Id` refuses, and can be read and forgotten."""


def idempotency_key(request: Request) -> str | None:
    """Return the header `Idempotency-Key`, None if there is none.

    Raises:
        Refused: it is no id.
    """
    given = request.headers.get("idempotency-key")
    if not given:
        return None
    try:
        return _ID.validate_python(given.encode("latin-1").decode())
    except UnicodeDecodeError:
        raise ERRORS.refuse("invalid_request", "it is not UTF-8", "Idempotency-Key") from None
    except ValidationError as error:
        raise ERRORS.refuse("invalid_request", reason(error.errors()[0]), "Idempotency-Key") from None
