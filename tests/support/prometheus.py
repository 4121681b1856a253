"""A stand-in for Prometheus over HTTP: it answers each query with one number, with none, or not at all."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from tests.support.servers import listening


class Prometheus:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.value: float | None = None
        """None: there is no sample, as of requests where there were none."""
        self.status = 200
        self.queries: list[str] = []
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"] == "/api/v1/query"
        self.queries += parse_qs(scope["query_string"].decode())["query"]
        sample = {"metric": {}, "value": [time.time(), "NaN" if self.value is None else str(self.value)]}
        body = {"status": "success", "data": {"resultType": "vector", "result": [sample]}}
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@contextmanager
def prometheus() -> Iterator[Prometheus]:
    """Start one on a port of its own."""
    made = Prometheus()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await made(scope, receive, send)

    with listening(app) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made
