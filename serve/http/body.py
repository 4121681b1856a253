"""Bodies as strict JSON: UTF-8, finite numbers, bounded depth. FastAPI's own reading takes NaN and recurses freely."""

import codecs
import math
import zlib
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.responses import Response

from serve.contracts.errors import ERRORS

_BOMS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_GZIP = 16 + zlib.MAX_WBITS
_CAN_HOLD_A_FLOAT = frozenset({list, dict, float})


def parse_json(body: bytes) -> Any:
    """Return what a JSON text says. Duplicate names: the last counts, as in every browser.

    Raises:
        Refused: it is no JSON, no UTF-8, nested more than 200 deep, or has a number that is not finite.
    """
    try:
        value = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise ERRORS.refuse("invalid_request", f"the body is not valid JSON: {_why(body) or error}") from None
    _check_finite([value])
    return value


def _why(body: bytes) -> str | None:
    """Return what the parser does not see: that the text is marked as of some encoding."""
    found = next((name for bom, name in _BOMS.items() if body.startswith(bom)), None)
    return found and f"it begins with a byte order mark (BOM) of {found}: send UTF-8 without one"


def decode(body: bytes, coding: str, most: int) -> bytes:
    """Undo a body's Content-Encoding, `gzip` being the only one that is known here.

    Args:
        body: as it was sent.
        coding: the header's value.
        most: bytes that the result may have.

    Raises:
        Refused: the coding is another one, the body is not of it, or becomes too large.
    """
    if coding.strip().lower() not in ("gzip", "x-gzip"):
        raise ERRORS.refuse("unsupported_media_type", f"send the body as it is, or with gzip, not as {coding[:80]!r}")
    inflate = zlib.decompressobj(_GZIP)
    try:
        plain = inflate.decompress(body, most + 1)  # no more than that is ever made of it
    except zlib.error as error:
        raise ERRORS.refuse("invalid_request", f"the body is not gzip, as its Content-Encoding says: {error}") from None
    if len(plain) > most:
        raise ERRORS.refuse("body_too_large", f"the body may have {most} bytes when it is unpacked")
    if not inflate.eof or inflate.unused_data:
        raise ERRORS.refuse("invalid_request", "the body is not one whole gzip stream, as its Content-Encoding says")
    return plain


def _check_finite(values: Collection[Any]) -> None:
    """Refuse what the parser makes of digits that no float holds: infinity."""
    if _CAN_HOLD_A_FLOAT.isdisjoint(map(type, values)):  # long lists are mostly of texts: one look in C
        return
    for value in values:
        if isinstance(value, list):
            _check_finite(value)
        elif isinstance(value, dict):
            _check_finite(value.values())
        elif isinstance(value, float) and math.isinf(value):
            raise ERRORS.refuse("invalid_request", "the body is not valid JSON: it has a number beyond 1.8e308")


class JsonRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:
        """Return what the body says; raises as `parse_json` does."""
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class JsonRoute(APIRoute):
    """A route whose body, if it takes one, is JSON: `APIRouter(route_class=JsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the strict reading of the body."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strict(plain: Request) -> Response:
            # One that was read already has its body; the next to read it would wait for ever.
            request = plain if isinstance(plain, JsonRequest) else JsonRequest(plain.scope, plain.receive)
            if await request.body():
                check_media_type(request.headers.get("content-type", ""))
                await request.json()
            return await handle(request)

        return strict


def check_media_type(given: str) -> None:
    """Check a Content-Type; raises Refused if it is none of JSON."""
    media_type = given.partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        got = f"got {given[:80]!r}" if given else "got none"
        raise ERRORS.refuse("unsupported_media_type", f"send the body as Content-Type: application/json, {got}")
