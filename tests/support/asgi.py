"""One request to an ASGI application without a server: its body in parts, and where they stop if they never end."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    read: int
    """Bytes of the request's body that were taken before the answer began."""

    @property
    def error(self) -> dict[str, Any]:
        body = json.loads(self.body)
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        return error


async def ask(
    app: ASGIApp,
    path: str = "/",
    parts: Iterable[bytes] = (),
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    ends: bool = True,
    client: str = "192.0.2.1",
) -> Answer:
    """Ask. With `ends` False the body stops after its parts, without an end, until the answer is complete."""
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": given,
        "client": (client, 1),
        "server": ("test", 80),
        "scheme": "http",
        "http_version": "1.1",
    }
    left = iter([*parts, b""] if ends else parts)
    sent: list[Message] = []
    read, read_before = 0, 0

    async def receive() -> Message:
        nonlocal read
        part = next(left, None)
        if part is None:
            await asyncio.sleep(3600)
        assert part is not None
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": part != b"" or not ends}

    async def send(message: Message) -> None:
        nonlocal read_before
        if message["type"] == "http.response.start":
            read_before = read
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert not bodies[-1].get("more_body", False)
    answered = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], answered, b"".join(body["body"] for body in bodies), read_before)
