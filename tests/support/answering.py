"""A service that answers by a rule, and remembers what it was asked: for who drives services."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve.traffic.client import Client, connect
from tests.support.servers import listening


def by_name(body: dict[str, Any]) -> list[str]:
    """Return the slate of a request: it follows from its id."""
    return sorted(body["candidates"], key=lambda item: _digest(body["decision_id"] + item))[: body["k"]]


@dataclass
class Answering:
    """What `/v1` is asked, in the order in which it came."""

    slate: Callable[[dict[str, Any]], Sequence[str]] = by_name
    refuse: Callable[[str, int], Response | None] = lambda path, number: None
    """Given the path and the number of requests before: what is answered instead."""
    jitter_s: float = 0.0
    """An answer takes up to so long, by the request's id."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    reported: list[list[dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    clients: set[int] = field(default_factory=set)
    """Ports that requests came from: one a connection."""
    number: int = 0
    positions: dict[str, int] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._health),
                Route("/v1/recommend", self._recommend, methods=["POST"]),
                Route("/v1/feedback", self._feedback, methods=["POST"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _recommend(self, request: Request) -> Response:
        if refused := self._hear(request):
            return refused
        body = await request.json()
        self.asked.append(body)
        await asyncio.sleep(self.jitter_s * _digest(body["decision_id"])[0] / 255)
        items = [{"item_id": item, "score": 0.0, "propensity": 1.0} for item in self.slate(body)]
        policy = {"name": body.get("policy", "default"), "version": "1"}
        return JSONResponse(
            {"decision_id": body["decision_id"], "items": items, "policy": policy, "learned_through": 0}
        )

    async def _feedback(self, request: Request) -> Response:
        if refused := self._hear(request):
            return refused
        rows = await request.json()
        self.reported.append(rows)
        results = []
        for row in rows:
            known = row["feedback_id"] in self.positions
            position = self.positions.setdefault(row["feedback_id"], len(self.positions) + 1)
            status = "known" if known else "stored"
            results.append({"feedback_id": row["feedback_id"], "status": status, "position": position})
        return JSONResponse({"results": results})

    def _hear(self, request: Request) -> Response | None:
        assert request.client is not None
        self.clients.add(request.client.port)
        self.headers.append(dict(request.headers))
        self.number += 1
        return self.refuse(request.url.path, self.number - 1)


@asynccontextmanager
async def answered(service: Answering, **options: Any) -> AsyncIterator[Client]:
    """Yield a client of the service, which listens on a port of its own."""
    with listening(service.app) as port:
        async with connect({}) as session:
            yield Client(session, lambda: [f"http://127.0.0.1:{port}"], **options)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
