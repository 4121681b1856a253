"""Forms as browsers send them, read into models: what is wrong with a field is said by its name."""

from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError

from data.errors import reason
from serve.console.visitors import TOKEN
from serve.contracts.errors import ERRORS

M = TypeVar("M", bound=BaseModel)
_MAX_FIELDS = 200


async def read_form(request: Request, model: type[M]) -> M:
    """Return the form that a request carries; an empty field counts as none, of several of one name the last.

    Raises:
        Refused: a field is wrong, unknown, or missing.
    """
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise ERRORS.refuse("invalid_request", f"the form cannot be read: {error}") from None
    return parse(model, {name: value for name, value in pairs if name != TOKEN and value != ""})


def parse(model: type[M], fields: dict[str, Any]) -> M:
    """Return the model of fields, such as those of a query.

    Raises:
        Refused: a field is wrong, unknown, or missing.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ERRORS.refuse("invalid_request", reason(first), ".".join(map(str, first["loc"])) or None) from None
