"""Errors as pages: the shape of `serve.http.answers` for browsers. What went wrong, and what to do next."""

from typing import Final

from starlette.responses import HTMLResponse, Response

from serve.console.rendering import Pages
from serve.console.sessions import Visitor
from serve.contracts.errors import Failure
from serve.http.answers import Shape
from serve.http.exchange import Exchange

_NEXT: Final = {
    "unauthorized": "Log in again; what you were doing is not lost until you leave the page.",
    "forbidden": "Log in with a key whose role may do this, or reload the page and try again.",
    "not_found": "Choose a page above.",
    "unknown_decision": "Copy the id from where it was shown: a card of the shop, or the answer of /v1/recommend.",
    "rate_limited": "Wait a moment, then try again.",
    "busy": "Wait a moment, then try again.",
    "timeout": "Try again: nothing is counted twice.",
    "store_unavailable": "Nothing is lost. This page works again as soon as the log answers.",
    "not_ready": "The service starts, or is being changed: try again in a few seconds.",
    "internal": "Try again. If it stays so, look for the request's id in the log of the service.",
}
_OTHERWISE: Final = "Change what the message names, and try again."


def problems(pages: Pages) -> Shape:
    """Return the shape: a whole page; the part of it that says what is wrong is what scripts put into another page."""

    def page(failure: Failure, asked: Exchange) -> Response:
        given = {
            "title": failure.kind.when.capitalize(),
            "message": failure.message[:1_000],
            "where": failure.where[:200] if failure.where else None,
            "code": failure.code,
            "request_id": asked.request_id,
            "next_step": _NEXT.get(failure.code, _OTHERWISE),
        }
        html = pages.render("problem.html", asked.root, Visitor(asked.principal, ""), page=None, **given)
        return HTMLResponse(html, failure.kind.status)

    return page
