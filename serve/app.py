"""The Serve application: replicas that answer, one learner that they follow. The only module that imports Ray Serve."""

import asyncio
import io
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from data.archive import Archive
from data.node import load_node
from data.settings import Settings
from data.store import Store, StoreUnavailable
from data.writer import GroupCommitWriter
from rl.artefact import load
from serve.api.v1 import create_api
from serve.config import Secrets, ServiceConfig
from serve.learner import OnlineLearner, Snapshot, Update
from serve.recommender import Recommender
from serve.router import Router
from serve.service import Service

_POLL_S = 0.05
"""How often the learner looks at the log; adds half of it to the time until feedback is served."""
_LONG_POLL_S = 5.0
_HISTORY = 200
"""Updates kept for followers; one that has missed more takes a snapshot."""

News: TypeAlias = tuple[str, Snapshot | list[Update]]
"""Which learner it is from (a restarted one counts anew), and what a follower does not have yet."""

log = logging.getLogger("ray.serve")


def _settings(config: ServiceConfig) -> Settings:
    """A home that is given is the whole place: the environment's log and archive are for the environment's home."""
    return Settings(home=Path(config.home), store=None, archive=None) if config.home else Settings()


class Learner:
    """One replica that folds the log; the others ask it what is new."""

    def __init__(self, config: ServiceConfig) -> None:
        """Load the policies, rebuild from the log what they have learned since, then follow it."""
        settings = _settings(config)
        artefacts = {name: load(settings.home / "policies" / name) for name in config.policies}
        for name, artefact in artefacts.items():
            if artefact.reward != config.reward:
                log.warning("%s was trained for %s and now learns from %s", name, artefact.reward, config.reward)
        self._learner = OnlineLearner(Store.open(settings.store_url), artefacts, config.reward, config.learn_from)
        self._id = uuid4().hex
        self._node = ray.get_runtime_context().get_node_id()
        self._updates: list[Update] = []
        if last := self._learner.catch_up():
            self._updates = [last]
        self._changed = asyncio.Condition()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                update = await asyncio.to_thread(self._learner.poll)
            except StoreUnavailable as error:
                log.warning("the log did not answer, trying again: %s", error)
                update = None
            if update:
                async with self._changed:
                    self._updates = [*self._updates[-_HISTORY:], update]
                    self._changed.notify_all()
            await asyncio.sleep(_POLL_S)

    def node(self) -> str:
        """Return the id of the machine that the log's file is on."""
        return self._node

    async def news(self, learner_id: str, number: int) -> News:
        """Return what came after update `number` of learner `learner_id`; waits up to 5 s for something."""
        if learner_id != self._id or (self._updates and self._updates[0].number > number + 1):
            return self._id, await asyncio.to_thread(self._learner.snapshot)
        async with self._changed:
            with suppress(TimeoutError):  # an empty answer shows the follower that the learner lives
                await asyncio.wait_for(self._changed.wait_for(lambda: self._newer(number)), _LONG_POLL_S)
        return self._id, self._newer(number)

    def _newer(self, number: int) -> list[Update]:
        return [update for update in self._updates if update.number > number]

    def check_health(self) -> None:
        """Let Serve replace this replica if it no longer follows the log."""
        if self._task.done():
            raise RuntimeError(f"the learner has stopped following the log: {self._task.exception()}")


class Gateway:
    """A replica that answers HTTP requests with the newest version that the learner has published."""

    def __init__(self, config: ServiceConfig, learner: "DeploymentHandle[Any]") -> None:
        """Open the log; the policies come from the learner."""
        settings = _settings(config)
        self._learner = learner
        self._writer = GroupCommitWriter(Store.open(settings.store_url))
        archive = Archive.at(settings.archive_uri)
        nodes = {name: (load_node(name), archive.scaler(name)) for name in config.nodes}
        self._recommender = Recommender({}, Router(config.policies))
        self._service = Service(
            self._recommender, self._writer, nodes, serve.get_replica_context().replica_id.unique_id
        )
        self._learner_id, self._number = "", 0
        self._task: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP application in the replica, where its service is."""
        key = Secrets().api_key
        return create_api(self._service, key.get_secret_value() if key else None, self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Take over what was learned before the first request, follow the learner, and end what was begun.

        Raises:
            RuntimeError: the learner runs on another machine, where it reads another file.
        """
        if (node := await self._learner.node.remote()) != ray.get_runtime_context().get_node_id():
            raise RuntimeError(f"the log is one SQLite file on node {node}: all replicas must run there")
        await self._catch_up()
        self._task = asyncio.create_task(self._follow())
        yield
        self._task.cancel()
        await asyncio.to_thread(self._writer.close)

    async def _catch_up(self) -> None:
        """Wait for news of the learner and take them over; nothing awaits in between, so no request sees half of it."""
        learner_id, news = await self._learner.news.remote(self._learner_id, self._number)
        if isinstance(news, Snapshot):
            self._recommender.restore(news)
            self._number = news.number
        else:
            for update in news:
                self._recommender.apply(update)
                self._number = update.number
        self._learner_id = learner_id

    async def _follow(self) -> None:
        while True:
            try:
                await self._catch_up()
            except (RayError, RayServeException) as error:
                log.warning("no word from the learner, going on with what is known: %s", error)
                await asyncio.sleep(1.0)

    def check_health(self) -> None:
        """Let Serve replace this replica if it no longer follows the learner."""
        if self._task and self._task.done():
            raise RuntimeError(f"the replica has stopped following the learner: {self._task.exception()}")


def build(config: ServiceConfig) -> serve.Application:
    """Build the application from its arguments, as `serve deploy serve/config.yaml` does."""
    learner = serve.deployment(num_replicas=1, max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 0.1})(Learner)
    gateway = serve.deployment(num_replicas=2, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0.2})(
        serve.ingress()(Gateway)
    )
    return gateway.bind(config, learner.bind(config))


def ray_environment(drain_s: float) -> dict[str, str]:
    """Return what must be in the environment before Ray starts, for HAProxy to be the ingress.

    Its ports for statistics and metrics are free ones, so that several services can run on one machine.

    Args:
        drain_s: how long a replica that is to stop still answers, in seconds; Serve's default is 30.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(drain_s),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(config: ServiceConfig, port: int) -> Iterator[str]:
    """Run the application on the Ray that is running, and yield its URL; what was started is stopped at the end."""
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(build(config), name="raycommend")
        yield f"http://127.0.0.1:{port}"
    finally:
        # Serve kills its controller while that still answers, and Ray prints this to standard output as a failure.
        with redirect_stdout(io.StringIO()):
            serve.shutdown()  # type: ignore[no-untyped-call]
