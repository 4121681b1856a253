"""Pages of which a part is asked for again and again: where nothing has changed, nothing is sent."""

from hashlib import sha256
from typing import Any, Final

from fastapi import Request
from markupsafe import Markup
from starlette.responses import Response

from serve.console.room import Room
from serve.console.visitors import visitor

SEEN: Final = "seen"
"""Names the digest of what a page has, in the addresses that a part asks again by."""
_DIGEST: Final = "0123456789abcdef"
"""Stands for the digest of a part within it."""


def answer(room: Room, request: Request, page: str, template: str, part: str, **given: Any) -> Response:
    """Return a page; to a script the part of it that changes, or nothing where it is as the script has it.

    Args:
        room: of the page.
        request: with what it has, in the query's field `seen`.
        page: its name.
        template: of the whole, which is given the part as `body`.
        part: template of the part, which is given `digest` for the address that it asks again by.
        given: to both.
    """
    root, who = request.scope.get("root_path", ""), visitor(request.scope)
    body = room.pages.render(part, root, who, page=page, digest=_DIGEST, **given)
    digest = sha256(body.encode()).hexdigest()[: len(_DIGEST)]
    body = body.replace(f"{SEEN}={_DIGEST}", f"{SEEN}={digest}")
    if "hx-request" not in request.headers or request.headers.get("hx-history-restore-request") == "true":
        return room.pages.show(request, template, page=page, body=Markup(body), **given)
    if request.query_params.get(SEEN) == digest:
        return Response(status_code=204)
    return Response(body, media_type="text/html")


def fields(request: Request) -> dict[str, str]:
    """Return what a query asks; an empty field counts as none."""
    return {name: value for name, value in request.query_params.items() if value and name != SEEN}
