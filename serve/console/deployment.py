"""The console as a deployment of its own: streams that stay open neither fill nor scale what recommends."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import ray
from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from data import json_lines
from data.log.store import Store
from data.private import keep_private
from serve.background import check_log, check_tasks, repeat
from serve.config import ConsoleConfig, Secrets
from serve.console.application import create_console
from serve.console.desk import RemoteDesk
from serve.console.experiments.candidates import prepare
from serve.contracts.errors import Refused
from serve.http.keys import KeyRing

_KEYS_S: Final = 1.0
"""How often the keys are read: how long a revoked one goes on working."""
_AGAIN_S: Final = 1.0
_COURTESY: Final = 15
"""Niceness of the console's process: what recommends gets the processor first, then the learner, then pages."""

log = logging.getLogger("ray.serve")


class Console:
    """A replica that shows pages."""

    def __init__(self, config: ConsoleConfig, connect: "Callable[[str], DeploymentHandle[Any]]") -> None:
        """Open the log.

        Args:
            config: the application's arguments.
            connect: returns the handle of an application's ingress, given its name.
        """
        os.nice(_COURTESY)
        settings = config.settings
        keep_private(settings.home)
        self._config, self._store = config, Store.open(settings.store_url)
        key = Secrets().key
        self._redact = json_lines.setup([key] if key else [])
        self._keys = KeyRing(self._store, key)
        self._desk = RemoteDesk(lambda: connect(config.application))
        self._tasks: list[asyncio.Task[None]] = []

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP application in the replica."""
        return create_console(
            self._desk, self._store, self._keys, self._config, self._lifespan, self._redact, answer_id=False
        )

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """See that the log is the recommender's, then follow the keys.

        Raises:
            RuntimeError: the recommender runs on another machine, where it reads another file.
        """
        if not self._store.shared:
            await self._check_machine()
        await asyncio.to_thread(prepare)  # now: later it would hold up pages
        self._tasks = [asyncio.create_task(repeat(self._keys.refresh, _KEYS_S))]
        yield
        for task in self._tasks:
            task.cancel()

    async def _check_machine(self) -> None:
        """Wait for the recommender: in a file of its own there would be no keys, and all would be let in."""
        while True:
            try:
                node = await self._desk.node()
                break
            except Refused as error:
                log.warning("waiting for the application %s: %s", self._config.application, error)
                await asyncio.sleep(_AGAIN_S)
        if node != ray.get_runtime_context().get_node_id():
            raise RuntimeError(
                f"the log is one SQLite file on node {node}: the console must run there, or the log be in PostgreSQL"
            )

    def check_health(self) -> None:
        """Let Serve replace this replica if it no longer follows the keys, or another log is in the log's place."""
        check_tasks(self._tasks, "the console has stopped following the keys")
        check_log(self._store)
