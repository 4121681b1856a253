"""The Personalizer API in one process, with its learner beside it: for tests, over a test client or a real socket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from data.log.store import Store
from data.settings import Settings
from serve.api.application import create_api
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.evaluations.child import run_here
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from serve.learning.loops import Loops
from tests.support.ports import free_port
from tests.support.writers import StoreWriter

KEY = "right"
HEADERS = {"Ocp-Apim-Subscription-Key": KEY}


@dataclass
class Loop:
    """A replica and the learner that it follows."""

    store: Store
    loops: Loops
    served: Served
    personalizer: Personalizer
    keys: KeyRing
    app: FastAPI

    def learn(self) -> None:
        """Let the learner do all that there is to do, and the replica take it over."""
        self.loops.refresh()
        self.loops.poll()
        self.served.take(self.loops.news(self.served.steps()))


@contextmanager
def personalizer_loop(home: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Loop]:
    """Build the service over a store in a folder; it answers requests that carry the key."""
    settings = Settings(home=home, store=None, archive=None)
    store = Store.open(settings.store_url, clock)
    served = Served({LOOP: {LOOP: 1.0}})
    loops = Loops(store, settings, [PersonalizerSource(settings, store)], clock)
    served.take(loops.news(served.steps()))
    service = Service(served, store, StoreWriter(store), {})
    personalizer = Personalizer(served, store, service.commit, service.report, settings, run=run_here)
    keys = KeyRing(store, KEY)
    edge = Edge(keys, answers=Answers(by_prefix=SHAPES), access_log=False)
    loop = Loop(store, loops, served, personalizer, keys, FastAPI())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(follow())
        yield
        task.cancel()

    async def follow() -> None:
        while True:
            await asyncio.to_thread(loops.refresh)
            await asyncio.to_thread(loops.poll)
            served.take(await asyncio.to_thread(loops.news, served.steps()))
            await asyncio.sleep(0.02)

    loop.app = create_api(service, edge, lifespan, personalizer)
    yield loop
    store.close()


@contextmanager
def over_http(app: ASGIApp) -> Iterator[str]:
    """Serve an application on a real socket, with its lifespan, and yield its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def actions(*ids: str) -> list[dict[str, Any]]:
    """Return actions with a feature each."""
    return [{"id": one, "features": [{"kind": one}]} for one in ids]
