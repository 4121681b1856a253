"""`python -m serve.demo`: the whole loop on one machine - ingest, train, deploy, serve customers, learn - and proof."""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from data.atomic import lock
from data.cluster import start_ray
from data.command import AMISS, DONE, argument_parser, command, whole
from data.errors import DataError
from data.features.customers import EncoderConfig, fit
from data.ingest.pipeline import Progress as IngestProgress
from data.ingest.run import ingest
from data.log.current.items import upsert
from data.log.store import Store
from data.nodes.node import load_node
from data.private import create_private, keep_private
from data.reward import RewardSpec
from data.settings import Settings
from rl.experience.events import purchase_events
from rl.policies import (
    LinearThompsonConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
)
from rl.simulators.market.fitted import FittedMarketConfig, fit_market
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market, generate_transactions
from rl.simulators.market.market import Market
from rl.training.kinds.retail import RetailExperiment, train
from serve.app import ray_environment, running
from serve.config import ConsoleConfig, ServiceConfig
from serve.demo.goods import describe_goods, name_goods
from serve.demo.report import draw_curves, summarise, table
from serve.demo.traffic import Customers

NODE = "online_retail"
_LOCK = "demo.lock"
POLICIES: dict[str, PolicyConfig] = {
    "random": RandomConfig(),
    "popularity": PopularityConfig(),
    "rfm_bandit": RFMBanditConfig(),
    "linear_thompson": LinearThompsonConfig(),
}
HELD_OUT = datetime(2011, 10, 1, tzinfo=UTC)
"""Real transactions: customers of the demo do what the purchases before this time say."""

console = Console(stderr=True, soft_wrap=True)  # a path that was broken over two lines cannot be copied


def step(number: int, text: str) -> None:
    """Say what comes next."""
    console.print(f"[bold]{number}/5[/bold] {text}")


def load_data(data: str | None, settings: Settings, rng: np.random.Generator) -> Market:
    """Ingest transactions - the given ones or generated ones - and return the market that the customers come from.

    Raises:
        DataError: the transactions cannot be read.
    """
    if data:
        step(1, f"ingest {data}")
        summary = ingest([data], load_node(NODE), settings.archive_uri, progress=IngestProgress(sys.stderr))
        events = purchase_events(settings, NODE, before=HELD_OUT)
        market = fit_market(events, fit(events, EncoderConfig()), FittedMarketConfig())
    else:
        config = GeneratedMarketConfig()
        path = settings.home / "transactions.parquet"
        step(1, f"generate a shop's year of transactions and ingest {_short(path)}")
        market = generate_market(config, rng)
        generate_transactions(market, config.invoices, rng).to_parquet(path)
        summary = ingest([str(path)], load_node(NODE), settings.archive_uri, progress=IngestProgress(sys.stderr))
    console.print(
        f"    {summary.model_dump_json(include={'read', 'rejected', 'duplicates', 'events', 'users', 'items'})}"
    )
    return market


def train_first(settings: Settings, decisions: int, before: datetime | None) -> None:
    """Train the first policies against a market fitted to the ingested purchases, as a shop would that has no log."""
    step(2, f"train the first policies: {decisions:,} visits to a simulator fitted to the purchases")
    with _progress() as progress, threadpool_limits(1, "blas"):
        for name, policy in POLICIES.items():
            train(RetailExperiment(name=name, policy=policy, decisions=decisions, before=before), settings, progress)


def stock(settings: Settings, market: Market, is_real: bool) -> None:
    """Put the market's items into the catalogue, with names, kinds and prices for people who look."""
    goods = describe_goods(market, settings, NODE) if is_real else name_goods(market)
    store = Store.open(settings.store_url)
    upsert(store, goods)
    store.close()


def serve_customers(url: str, market: Market, visits: int, clients: int, seed: int) -> Customers:
    """Let the market's customers use the service.

    Raises:
        TrafficError: the service failed them.
    """
    step(4, f"{visits:,} visits over HTTP from {clients} clients, each asking one of the policies at random")
    customers = Customers(market, url, k=10, spec=RewardSpec(), seed=seed)
    with _progress() as progress:
        task = progress.add_task("visits", total=visits)
        asyncio.run(customers.visit(visits, list(POLICIES), clients, lambda: progress.advance(task)))
    return customers


def show(customers: Customers, settings: Settings) -> bool:
    """Print and draw the results; returns whether nothing was lost."""
    step(5, "results")
    traffic, store = customers.traffic, Store.open(settings.store_url)
    kept = {f.feedback_id for reports in store.feedback_of(traffic.decisions).values() for f in reports}
    lost = len(traffic.decisions - store.decisions_by_id(traffic.decisions).keys())
    lost += len(traffic.feedback.keys() - kept)
    store.close()
    summary = summarise(customers, list(POLICIES), 1_000, lost)
    picture = draw_curves(summary, settings.home)
    console.print(table(summary))
    fresh = summary["feedback_to_served_s"]
    console.print(f"events lost: {lost} of {summary['decisions'] + summary['feedback']:,} acknowledged")
    if fresh["n"]:  # a very short run has no time to measure it
        console.print(f"feedback to served by both replicas: p50 {fresh['p50']:.2f} s, p95 {fresh['p95']:.2f} s")
    console.print(f"picture: {_short(picture)}, its numbers: {_short(picture.with_suffix('.json'))}")
    return lost == 0


def invite(url: str, market: Market) -> None:
    """Say where the shop is, and print three requests to try."""
    json = "-H 'content-type: application/json'"
    console.print("the service is up: be a customer, and watch it learn, at")
    console.print(f"    {url}/console/shop?user={market.users[0]}&policy=linear_thompson", highlight=False)
    console.print("or try")
    for line in (
        f"""curl -s {url}/v1/recommend {json} -d '{{"user_id": "{market.users[0]}", "k": 3, "decision_id": "mine"}}'""",
        f"""curl -s {url}/v1/feedback {json} -d '{{"decision_id": "mine", "kind": "click"}}'""",
        f"curl -s {url}/healthz",
    ):
        console.print(f"    {line}", highlight=False)


def _short(path: Path) -> str:
    """Return the path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _progress() -> Progress:
    columns = (TextColumn("    {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise DataError(f"port {port} is taken: choose another with --port (make demo PORT=...)") from error


@command("serve.demo")
def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argument_parser("serve.demo", __doc__)
    parser.add_argument("--data", help="Online Retail transactions (CSV, JSON Lines or Parquet); default: generated")
    parser.add_argument("--home", type=Path, default=Path("var/demo"), help="emptied first (default: var/demo)")
    parser.add_argument(
        "--visits", type=whole(1), default=16_000, help="over HTTP, shared by 4 policies (default: 16000)"
    )
    parser.add_argument(
        "--first", type=whole(1), default=40, help="simulated visits of the first training (default: 40)"
    )
    parser.add_argument("--clients", type=whole(1), default=16, help="at once (default: 16)")
    parser.add_argument("--port", type=whole(1, 65_535), default=8000)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--exit", action="store_true", help="stop at the end instead of leaving the service up")
    options = parser.parse_args(arguments)
    _check_port(options.port)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    settings = Settings(home=options.home.absolute(), store=None, archive=None)
    create_private()
    rng = np.random.default_rng(options.seed)
    for name in ("RAYCOMMEND_API_KEY", "RAYCOMMEND_API_KEY_FILE"):
        os.environ.pop(name, None)  # the demo's customers have none
    os.environ.update(ray_environment(drain_s=1))
    with _fresh_home(settings.home), _ray(jobs=not options.exit):
        keep_private(settings.home)
        market = load_data(options.data, settings, rng)
        train_first(settings, options.first, HELD_OUT if options.data else None)
        step(3, "deploy behind HTTP: two replicas and an online learner")
        config = ServiceConfig(policies={name: 1.0 for name in POLICIES}, home=str(settings.home))
        stock(settings, market, bool(options.data))
        with running(config, options.port, ConsoleConfig(home=str(settings.home))) as url:
            customers = serve_customers(url, market, options.visits, options.clients, options.seed)
            kept = show(customers, settings)
            if not options.exit:
                invite(url, market)
                console.print("Ctrl-C stops it")
                with suppress(KeyboardInterrupt):
                    signal.pause()
    return DONE if kept else AMISS


@contextmanager
def _fresh_home(home: Path) -> Iterator[None]:
    """Empty the folder and keep it for this process; only a folder that a demo has made is ever emptied."""
    mark = home / _LOCK
    if home.exists() and not home.is_dir():
        raise DataError(f"{home} is no folder: choose another --home")
    if home.exists() and not mark.exists() and any(home.iterdir()):
        raise DataError(f"{home} was not made by a demo and is not empty: choose another --home")
    with lock(mark, lambda process: _is_in_use(home, process)):
        for old in home.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
            elif old != mark:
                old.unlink()
        yield


def _is_in_use(home: Path, process: str) -> DataError:
    return DataError(f"another demo is using {home}: stop it (process {process}), or choose another --home")


@contextmanager
def _ray(jobs: bool) -> Iterator[None]:
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    start_ray(own=True, jobs=jobs)  # the console starts trainings as jobs
    # After Ray, which sets a handler of its own: SIGTERM ends the demo like Ctrl-C, so what was started is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        ray.shutdown()
