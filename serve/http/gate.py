"""What one request, one client and all together may take: bytes, time, rate, requests at once."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Collection
from time import monotonic
from typing import ClassVar, Final
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.config import Limits
from serve.contracts.errors import ERRORS, Failure, Refused
from serve.http import exchange
from serve.http.answers import Answers
from serve.http.body import decode
from serve.http.exchange import Exchange
from serve.http.keys import KeyRing, Principal

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Paths that need no key and are never refused for load."""
STREAMS: Final = frozenset({"/v1/stream"})
"""Paths whose answers go on for long: counted apart."""

_CLIENTS = 10_000  # whose rate is remembered; of more, who has not asked for longest is forgotten
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_SMALL_BODY = 65_536  # an unread body up to this the server skips; a larger one ends the connection
_LINGER_S = 1.0


class RateLimiter:
    """Token buckets, one for each client: `burst` requests at once, refilled at `rate` a second.

    A bucket is kept as one number, the time at which it will be full again (the generic cell rate algorithm: the same
    decisions as counting tokens). Of more than `clients` clients the one that has not asked for longest is forgotten,
    and starts with a full bucket if it comes back.
    """

    def __init__(
        self, rate: float, burst: int, clients: int = _CLIENTS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._rate, self._clients, self._clock = rate, clients, clock
        self._burst_s = burst / rate
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self.share(1)

    def share(self, replicas: int) -> None:
        """Grant a share of rate and burst, one of `replicas` equal ones: together they grant the whole."""
        self._interval_s = max(replicas, 1) / self._rate
        self._depth_s = max(self._burst_s, self._interval_s)

    def take(self, client: str) -> float:
        """Let one request of a client pass and return 0, or return the seconds until one may."""
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._interval_s
        wait_s = full_at - now - self._depth_s
        if wait_s > 1e-9:  # what floats lose
            return wait_s
        self._full_at[client] = full_at
        self._full_at.move_to_end(client)
        if len(self._full_at) > self._clients:
            self._full_at.popitem(last=False)
        return 0.0


class Rates:
    """The rates of a replica: keys by their id, and whoever has none by address."""

    def __init__(self, limits: Limits) -> None:
        rate, burst = limits.requests_per_s, limits.burst
        self._keys = RateLimiter(rate, burst) if rate else None
        self._addresses = RateLimiter(rate, burst) if rate else None

    def share(self, replicas: int) -> None:
        """Say how many replicas grant the rate together."""
        for limiter in (self._keys, self._addresses):
            if limiter is not None:
                limiter.share(replicas)

    def take(self, key_id: str, address: str) -> float:
        """Let one request pass and return 0, or return the seconds until one may."""
        limiter = self._keys if key_id else self._addresses
        return 0.0 if limiter is None else limiter.take(key_id or address)


class Gate:
    """ASGI middleware that lets a request in only with a key, within its rate, with its whole body, if there is room.

    The body is read here, so that a slow or endless one is refused before the application sees any of it.
    """

    public: ClassVar[Collection[str]] = PUBLIC
    streams: ClassVar[Collection[str]] = STREAMS

    def __init__(self, app: ASGIApp, keys: KeyRing, limits: Limits, rates: Rates, answers: Answers) -> None:
        self._app, self._keys, self._limits, self._rates, self._answers = app, keys, limits, rates, answers
        self._in_flight = self._streaming = self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        current = exchange.of(scope)
        if current.path in self.public:
            return await self._app(scope, receive, send)
        headers: dict[bytes, bytes] = dict(scope["headers"])
        length = _length(headers)
        failure = (
            self.identify(scope, current, headers)
            or self._check_room(current)
            or self._check_length(length)
            or _check_encoding(scope)
        )
        if failure is not None:
            return await self._refuse(scope, receive, send, failure, length)
        if length != 0 or scope["method"] not in _BODILESS:
            return await self._with_body(scope, receive, send, current, _text(headers, b"content-encoding"))
        await self._count_and_pass(scope, receive, send, current)

    def identify(self, scope: Scope, current: Exchange, headers: dict[bytes, bytes]) -> Failure | None:
        """Find out who asks; fail if nobody known does, or too often."""
        principal = self._keys.authenticate(
            _text(headers, b"authorization"),
            _text(headers, b"x-api-key"),
            _text(headers, b"ocp-apim-subscription-key"),
        )
        current.principal = principal
        if failure := self.limit_rate(scope, principal):
            return failure
        if principal is None:
            return ERRORS.fail("unauthorized", "this service needs an API key: send it as Authorization: Bearer KEY")
        return None

    def limit_rate(self, scope: Scope, principal: Principal | None) -> Failure | None:
        """Fail if who asks does so too often."""
        client = scope.get("client")
        wait_s = self._rates.take(principal.key_id if principal else "", client[0] if client else "")
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            message = f"at most {self._limits.requests_per_s:g} requests a second: the next in {seconds} s"
            return ERRORS.fail("rate_limited", message, retry_after_s=seconds)
        return None

    def _check_room(self, current: Exchange) -> Failure | None:
        """Fail if as much is under way as may be."""
        streams = current.path in self.streams
        taken, most = (
            (self._streaming, self._limits.max_streams) if streams else (self._in_flight, self._limits.max_in_flight)
        )
        if taken < most and self._buffered < self._limits.max_buffered_bytes:
            return None
        what = f"{most} {'streams are' if streams else 'requests are being'} answered"
        if taken < most:
            what = "too many bodies are arriving"
        return ERRORS.fail("busy", f"{what}: try again a little later")

    def _check_length(self, length: int | None) -> Failure | None:
        most = self._limits.max_body_bytes
        return ERRORS.fail("body_too_large", f"the body may have {most} bytes") if length and length > most else None

    async def _with_body(
        self, scope: Scope, receive: Receive, send: Send, current: Exchange, coding: str | None
    ) -> None:
        """Read the body, unpack it, then let the request in."""
        body = bytearray()
        try:
            if failure := await self._read(receive, body):
                return await self._refuse(scope, receive, send, failure, None)
            if coding and coding != "identity":
                plain = decode(bytes(body), coding, self._limits.max_body_bytes)
                self._buffered += len(plain) - len(body)
                body[:] = plain
            if failure := self._check_room(current):
                return await self._refuse(scope, receive, send, failure, 0)
            current.body = bytes(body)
            whole: Message | None = {"type": "http.request", "body": current.body, "more_body": False}

            async def replay() -> Message:
                nonlocal whole
                if whole is None:
                    return await receive()
                message, whole = whole, None
                return message

            await self._count_and_pass(scope, replay, send, current)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Refused as error:  # by `decode`: those of the application it answers itself
            await self._refuse(scope, receive, send, error.failure, 0)
        finally:
            self._buffered -= len(body)

    async def _read(self, receive: Receive, body: bytearray) -> Failure | None:
        """Append the body to `body`; fail if it takes too long or is too large."""
        most, timeout_s = self._limits.max_body_bytes, self._limits.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part = message.get("body", b"")
                    body += part
                    self._buffered += len(part)
                    if len(body) > most:
                        return ERRORS.fail("body_too_large", f"the body may have {most} bytes")
                    if not message.get("more_body", False):
                        return None
        except TimeoutError:
            return ERRORS.fail("body_timeout", f"the body did not arrive within {timeout_s:g} s: {len(body)} bytes did")

    async def _count_and_pass(self, scope: Scope, receive: Receive, send: Send, current: Exchange) -> None:
        if current.path in self.streams:
            self._streaming += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._streaming -= 1
        else:
            self._in_flight += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._in_flight -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, failure: Failure, length: int | None) -> None:
        """Answer at once, without the rest of the body.

        A connection that is closed while the client still sends is reset, and the client may lose the answer with it:
        so what still comes is thrown away for a moment before it is closed.
        """
        response = self._answers(scope, failure)
        if length is not None and length <= _SMALL_BODY:
            return await response(scope, receive, send)
        response.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body, "more_body": True})
        try:
            async with asyncio.timeout(_LINGER_S):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
        except TimeoutError:
            pass  # the linger time is over
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _check_encoding(scope: Scope) -> Failure | None:
    """Fail if path or query are not UTF-8: read with replacements, many texts would become one."""
    for what, raw in (("path", scope["raw_path"]), ("query", scope["query_string"])):
        if b"%" in raw or not raw.isascii():
            try:
                unquote_to_bytes(raw).decode()
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                return ERRORS.fail("invalid_request", f"the {what} is not UTF-8: it has the byte %{byte:02X}", what)
    return None


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _length(headers: dict[bytes, bytes]) -> int | None:
    """Return how many bytes the body has; None: the client does not say."""
    if b"transfer-encoding" in headers:
        return None
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() else None
