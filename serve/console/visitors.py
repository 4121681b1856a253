"""Who visits: stands before every route, so that none can forget to ask who comes, or who has sent a form."""

import asyncio
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.log.errors import StoreError
from serve.console.sessions import Sessions, Visitor
from serve.contracts.errors import ERRORS, Failure
from serve.http import exchange
from serve.http.answers import Answers, to_failure
from serve.http.gate import Gate

COOKIE: Final = "raycommend_console"
STATIC: Final = "/static/"
LOGIN: Final = "/login"
TOKEN: Final = "token"  # noqa: S105 - a name
"""The field of a form, and in `X-Token` the header of a script's request, that says which page has sent it."""
STREAM: Final = "/stream"

_VISITOR = "raycommend.visitor"
_READS = frozenset({"GET", "HEAD"})
_FORM = "application/x-www-form-urlencoded"
_AGAIN: Final = '<!doctype html><meta http-equiv="refresh" content="0"><title>One moment</title>'
"""A link of another site brings no cookie that is for this site alone; this page's own request does."""


class ConsoleGate(Gate):
    """The gate of a service, for browsers: they are known by their cookie, which `Visitors` reads, not by a key."""

    public = frozenset[str]()
    streams = frozenset({STREAM})

    def identify(self, scope: Scope, current: exchange.Exchange, headers: dict[bytes, bytes]) -> Failure | None:
        """Fail if an address asks too often."""
        return self.limit_rate(scope, None)


def visitor(scope: Scope) -> Visitor:
    """Return who has sent a request; one without a cookie has no secret."""
    found = scope.get(_VISITOR)
    return found if isinstance(found, Visitor) else Visitor(None, "")


class Visitors:
    """ASGI middleware: reads the cookie, refuses who has no session, and forms that are of no page of ours."""

    def __init__(self, app: ASGIApp, sessions: Sessions, answers: Answers) -> None:
        self._app, self._sessions, self._answers = app, sessions, answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http" or exchange.of(scope).path.startswith(STATIC):
            return await self._app(scope, receive, send)
        current, headers = exchange.of(scope), Headers(scope=scope)
        if not current.path:  # Starlette would redirect too, to an address with the scheme of this hop
            return await RedirectResponse(f"{current.root}/", 307)(scope, receive, send)
        secret = _read_cookie(headers)
        if secret is None and _comes_by_link(scope, headers):
            return await HTMLResponse(_AGAIN)(scope, receive, send)
        try:
            found = await asyncio.to_thread(self._sessions.find, secret)
        except StoreError as error:
            return await self._answers(scope, to_failure(error))(scope, receive, send)
        is_new = found is None
        if found is None:
            found = await asyncio.to_thread(self._sessions.find, self._sessions.make_secret())
            assert found is not None, "a secret of ours is one"
        scope[_VISITOR], current.principal = found, found.principal
        if failure := _check(scope, current, headers, found):
            refused = self._answers(scope, failure)
            if failure.code == "unauthorized" and scope["method"] in _READS and "hx-request" not in headers:
                refused = RedirectResponse(f"{current.root}{LOGIN}?next={quote(_asked(scope, current))}", 303)
            return await refused(scope, receive, send)
        if is_new and scope["method"] in _READS:
            send = _with_cookie(scope, send, found)
        await self._app(scope, receive, send)


def set_cookie(scope: Scope, response: Response, secret: str, max_age_s: float | None = None) -> None:
    """Give a browser its secret, for this site's own requests alone; scripts cannot read it."""
    secure = scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto") == "https"
    response.set_cookie(
        COOKIE,
        secret,
        max_age=None if max_age_s is None else int(max_age_s),
        path=scope.get("root_path") or "/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def _check(scope: Scope, current: exchange.Exchange, headers: Headers, found: Visitor) -> Failure | None:
    """Fail if a request changes something and was not sent by a page of ours, or nobody known has sent it."""
    changes = scope["method"] not in _READS
    if changes and (_is_foreign(headers) or not found.sends(_read_token(headers, current.body))):
        return ERRORS.fail("forbidden", "this form is of no page of this session: reload the page, and send it again")
    if found.principal is None and current.path != LOGIN:
        return ERRORS.fail("unauthorized", "log in with a key of this service")
    return None


def _read_cookie(headers: Headers) -> str | None:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def _read_token(headers: Headers, body: bytes) -> str:
    if given := headers.get("x-token"):
        return given
    if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return ""
    return dict(parse_qsl(body.decode("latin-1"))).get(TOKEN, "")


def _is_foreign(headers: Headers) -> bool:
    """Say whether a browser tells that another site's page has sent this."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _comes_by_link(scope: Scope, headers: Headers) -> bool:
    """Say whether another site's link was followed."""
    asked = (scope["method"], headers.get("sec-fetch-mode"), headers.get("sec-fetch-site"))
    return asked in (("GET", "navigate", "cross-site"), ("GET", "navigate", "same-site"))


def _asked(scope: Scope, current: exchange.Exchange) -> str:
    query = scope["query_string"].decode("latin-1")
    return f"{current.path}?{query}" if query else current.path


def _with_cookie(scope: Scope, send: Send, found: Visitor) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            cookie = Response()
            set_cookie(scope, cookie, found.secret)
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            if "set-cookie" not in headers:
                headers.append("set-cookie", cookie.headers["set-cookie"])
            message = {**message, "headers": headers.raw}
        await send(message)

    return sending
