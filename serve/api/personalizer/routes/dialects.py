"""The three dialects of the Personalizer API: how the path says which one, and how their answers differ."""

import re
from enum import Enum
from typing import Annotated, Final

from fastapi import Depends, Request

from serve.api.personalizer.errors import ERRORS
from serve.http import exchange

PREFIX: Final = "/personalizer"
API_VERSION: Final = "2022-09-01-preview"
"""What the dialect whose path has no version gives as `api-version`."""

_PATH = re.compile(r"/personalizer/(v1\.0|v1\.1-preview(?:\.\d{1,2})?)(?:/|$)")


class Dialect(Enum):
    """A version of the API."""

    STABLE = "v1.0"
    PREVIEW = "v1.1-preview"
    LATEST = API_VERSION

    @property
    def time_spans(self) -> bool:
        """Whether durations are written as .NET does."""
        return self is Dialect.STABLE

    @property
    def multislot(self) -> bool:
        """Whether there are events with slots."""
        return self is not Dialect.STABLE

    def code(self, code: str, status: int) -> str:
        """Return a code as this dialect has it: the oldest knows one for each status."""
        if self is Dialect.STABLE:
            return {400: "BadRequest", 404: "ResourceNotFound", 500: "InternalServerError"}.get(status, code)
        return code


def find_dialect(path: str) -> Dialect:
    """Return the dialect of a path below the prefix."""
    found = _PATH.match(path)
    if found is None:
        return Dialect.LATEST
    return Dialect.STABLE if found[1] == "v1.0" else Dialect.PREVIEW


def _dialect(request: Request) -> Dialect:
    """Return the dialect of a request.

    Raises:
        Refused: there is no such version.
    """
    dialect = find_dialect(exchange.of(request.scope).path)
    if "version" in request.path_params:
        if dialect is Dialect.LATEST:
            raise ERRORS.refuse("ResourceNotFound", "There is no such version: v1.0 and v1.1-preview.3 are served.")
    elif (given := request.query_params.get("api-version")) != API_VERSION:
        message = f"api-version must be {API_VERSION}, got {given and repr(given[:40])}"
        raise ERRORS.refuse("BadRequest", message, "api-version")
    return dialect


def _with_slots(dialect: Annotated[Dialect, Depends(_dialect)]) -> Dialect:
    if not dialect.multislot:
        raise ERRORS.refuse("ResourceNotFound", "v1.0 has no slots: v1.1-preview.3 has.")
    return dialect


AnyDialect = Annotated[Dialect, Depends(_dialect)]
WithSlots = Annotated[Dialect, Depends(_with_slots)]
