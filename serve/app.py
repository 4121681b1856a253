"""The Serve application: replicas that answer, one learner that they follow."""

import asyncio
import gc
import io
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from threadpoolctl import threadpool_limits

from data import json_lines
from data.archive.parquet import Archive
from data.log.store import Store
from data.log.writer.process import WriterProcess
from data.nodes.node import load_nodes
from data.private import keep_private
from data.schema import LOOP_V1
from rl.online.state import FoldState
from serve.api.application import create_api
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.background import check_log, check_tasks, keep_counting, repeat
from serve.config import ConsoleConfig, Secrets, ServiceConfig
from serve.console.deployment import Console
from serve.console.desk import ServiceDesk
from serve.decisions.recommender import Recommender
from serve.decisions.served import Served, has_publication, make_writable
from serve.decisions.service import Service
from serve.environment import ray_environment as ray_environment  # who runs the application needs both
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from serve.learner import LONG_POLL_S, Learner
from serve.metrics.setup import replica_metrics
from serve.traces.start import start_tracer

_REFRESH_S = 0.5
"""How often a replica looks whether items, tests and configurations are others."""
_NEWS_S = 3 * LONG_POLL_S
"""How long a replica waits for an answer of the learner until it asks again."""
_FIRST_NEWS_S = 120.0
"""The same of a new one, which is told all that was learned."""
_HEALTH: dict[str, Any] = {"health_check_period_s": 2.0, "health_check_timeout_s": 10.0}
"""A process that has died is missed at the next check, one that hangs at the third that is not answered."""
_LOGS: dict[str, Any] = {"logging_config": {"encoding": "JSON"}}
_KEYS_S = 1.0
"""How often a replica reads the keys: how long a revoked one goes on working."""

log = logging.getLogger("ray.serve")


class Gateway:
    """A replica that answers HTTP requests with the newest version that the learner has published."""

    def __init__(self, config: ServiceConfig, learner: "DeploymentHandle[Any]") -> None:
        """Open the log; the policies come from the learner."""
        threadpool_limits(1, "blas")
        settings = config.settings
        keep_private(settings.home)
        # By Serve's messages, not through Ray's objects: those leave the learner one after the other, and one follower
        # that hangs or is cut off would hold up all. How large they may be is in serve/environment.py.
        self._learner = learner.options(_by_reference=False)
        store = self._store = Store.open(settings.store_url)
        self._writer = WriterProcess(settings.store_url)
        key = Secrets().key
        redact = json_lines.setup([key] if key else [])
        self._replica = serve.get_replica_context().replica_id.unique_id
        metrics = self._metrics = replica_metrics(config, self._replica)
        tracer = self._tracer = start_tracer(config.traces, "gateway", self._replica, redact)
        self._edge = Edge(
            KeyRing(store, key),
            config.limits,
            Answers(by_prefix=SHAPES),
            redact,
            access_log=config.access_log,
            answer_id=False,
            origins=config.origins,
            plain=settings.plain,
            count=metrics.refused if metrics else None,
            traced=tracer.requests if tracer else None,
        )
        archive = Archive.at(settings.archive_uri)
        nodes = {name: (node, archive.scaler(name)) for name, node in load_nodes(config.nodes).items()}
        watch, make = metrics.decided if metrics else None, tracer.recommender if tracer else Recommender
        self._served = Served({LOOP_V1: config.shares, LOOP: {LOOP: 1.0}}, config.objectives, watch, make)
        writer = tracer.writer(self._writer) if tracer else self._writer
        self._service = Service(self._served, store, writer, nodes, config, self._replica, metrics)
        self._service.learning.ask = self._ask_states
        self._desk = ServiceDesk(self._service)
        self._personalizer = Personalizer(self._served, store, self._service.commit, self._service.report, settings)
        self._tasks: list[asyncio.Task[None]] = []

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the HTTP application in the replica, where its service is."""
        return create_api(self._service, self._edge, self._lifespan, self._personalizer)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Take over what was learned before the first request, follow the learner, and end what was begun.

        Raises:
            RuntimeError: the learner runs on another machine, where it reads another file.
        """
        node = await self._learner.node.remote()
        if not self._store.shared and node != ray.get_runtime_context().get_node_id():
            raise RuntimeError(
                f"the log is one SQLite file on node {node}: all replicas must run there, or the log be in PostgreSQL"
            )
        await self._writer.start()
        await self._catch_up(_FIRST_NEWS_S)
        await asyncio.to_thread(self._service.items.refresh)
        await asyncio.to_thread(self._service.tests.refresh)
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it again and again would hold up a hundred requests
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(repeat(self._edge.keys.refresh, _KEYS_S)),
            asyncio.create_task(repeat(self._service.items.refresh, _REFRESH_S)),
            asyncio.create_task(repeat(self._service.tests.refresh, _REFRESH_S)),
            asyncio.create_task(repeat(self._personalizer.configuration.refresh, _REFRESH_S)),
            asyncio.create_task(self._personalizer.optimize()),
        ]
        if self._metrics:
            self._tasks.append(asyncio.create_task(keep_counting(self._metrics, self._service, self._writer)))
        if self._tracer:
            self._tasks.append(asyncio.create_task(self._tracer.outbox.tell(self._learner.hear.remote)))
        yield
        for task in self._tasks:
            task.cancel()
        await self._writer.close()
        if self._tracer:
            await asyncio.to_thread(self._tracer.close)

    async def _catch_up(self, within_s: float) -> None:
        """Wait for news of the learner and take them over; nothing awaits in the taking: no request sees half of it.

        Raises:
            TimeoutError: there was no answer, as of a machine that is gone.
        """
        asked = self._learner.news.remote(self._replica, self._served.steps())
        news, replicas, states = await asyncio.wait_for(asked, within_s)
        if has_publication(news):
            news = await asyncio.to_thread(make_writable, news)
        self._served.take(news)
        self._served.hear(states)
        if self._metrics:
            for (loop, objective), recommender in self._served.places.items():
                if objective == "default":
                    self._metrics.learned(loop, recommender.learned_through)
        self._edge.rates.share(replicas)

    def node(self) -> str:
        """Return the id of the machine that this runs on."""
        return str(ray.get_runtime_context().get_node_id())

    async def desk(self, method: str, *arguments: Any) -> Any:
        """Answer the console: `serve.console.desk`."""
        return await self._desk.answer(method, *arguments)

    async def _ask_states(self) -> Sequence[FoldState]:
        states: Sequence[FoldState] = await self._learner.states.remote()
        return states

    async def _follow(self) -> None:
        while True:
            try:
                await self._catch_up(_NEWS_S)
            except (RayError, RayServeException, TimeoutError) as error:
                log.warning("no word from the learner, going on with what is known: %r", error)
                await asyncio.sleep(1.0)
            except Exception:  # a fault of ours; what is known is served meanwhile
                log.exception("the learner's news cannot be taken over, asking again")
                await asyncio.sleep(1.0)

    def check_health(self) -> None:
        """Let Serve replace this replica if it no longer follows the learner, or another log is in the log's place."""
        check_tasks(self._tasks, "the replica has stopped following the learner")
        check_log(self._store)


def build(config: ServiceConfig) -> serve.Application:
    """Build the application from its arguments, as `serve deploy serve/config.yaml` does."""
    return _bind(config, num_replicas=2)


def _bind(config: ServiceConfig, **of_gateway: Any) -> serve.Application:
    learner = serve.deployment(
        num_replicas=1, max_ongoing_requests=1_000, ray_actor_options={"num_cpus": 0.1}, **_HEALTH, **_LOGS
    )(Learner)
    # The edge has an access log of its own; at level INFO Serve would make a record a request, and throw it away.
    logging_config = {"enable_access_log": False, "log_level": "WARNING", **_LOGS["logging_config"]}
    of_replica = {"max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.2}, "logging_config": logging_config}
    options = {**of_replica, **_HEALTH, **of_gateway}
    gateway = serve.deployment(**options)(serve.ingress()(Gateway))
    return gateway.bind(config, learner.bind(config))


def build_console(config: ConsoleConfig) -> serve.Application:
    """Build the console's application from its arguments."""
    logging_config = {"enable_access_log": False, "log_level": "WARNING"}
    # Streams count as requests: as many may be open as `limits` lets, and some more that are answered.
    console = serve.deployment(
        num_replicas=1,
        max_ongoing_requests=1_000,
        ray_actor_options={"num_cpus": 0.1},
        logging_config=logging_config,
        **_HEALTH,
    )(serve.ingress()(Console))
    return console.bind(config, serve.get_app_handle)


@contextmanager
def running(config: ServiceConfig, port: int, console: ConsoleConfig | None = None, **of_gateway: Any) -> Iterator[str]:
    """Run the application on the Ray that is running, and yield its URL; what was started is stopped at the end.

    Args:
        config: the application's arguments.
        port: of HTTP, on this machine only.
        console: the arguments of the console, which is then at /console; None: there is none.
        of_gateway: options of the deployment that answers, as `serve/config.yaml` names them; default: two replicas.
    """
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(_bind(config, **(of_gateway or {"num_replicas": 2})), name="raycommend")
        if console is not None:
            serve.run(build_console(console), name="console", route_prefix="/console")
        yield f"http://127.0.0.1:{port}"
    finally:
        # Serve kills its controller while that still answers, and Ray prints this to standard output as a failure.
        with redirect_stdout(io.StringIO()):
            serve.shutdown()  # type: ignore[no-untyped-call]
