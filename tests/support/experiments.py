"""A home in which every part of the pages of experiments and data has something to show."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI

from data.log.store import Store
from data.schema import Event, Feedback, Reject
from data.settings import Settings
from rl.gate.specification import GateSpec
from rl.registry import register
from rl.trials import find, try_challengers
from serve.abtests.changes import start
from serve.abtests.specification import ABTest
from serve.config import ConsoleConfig
from serve.console.application import create_console
from serve.console.desk import ServiceDesk
from serve.http.keys import KeyRing
from tests.support.clocks import Clock
from tests.support.gates import REWARD, by_chance, learner, log_by_chance
from tests.support.ports import free_port
from tests.support.records import decision
from tests.support.services import wait_for
from tests.support.shops import shop_service

MODEL = "raycommend"
OBJECTIVE = "clicks"
"""Of the A/B test: the gate reads the decisions of the default one."""
GATE = """
look = 250
slowdown = 1000.0
guards = ["page"]
[reward]
wait_s = 60.0
"""


def fill(home: Path, mlflow_tables: Path | None = None, decisions: int = 1_500, try_them: bool = True) -> None:
    """Make a registry with a champion and two challengers that were tried on it, an A/B test, and a node's rows."""
    if mlflow_tables is not None:  # they take seconds to make
        shutil.copy(mlflow_tables, home)
    settings = Settings(home=home, store=None, archive=None)
    (home / "gate.toml").write_text(GATE)
    clock = Clock(datetime.now(UTC) - timedelta(days=3))
    with closing(Store.open(settings.store_url, clock)) as store:
        log_by_chance(store, clock, by_chance(home / "policies").digest, decisions)
        learner(home / "policies")
        by_chance(home / "policies", "other")
        for policy, alias in (("chance", "champion"), ("learner", "challenger"), ("other", None)):
            register(settings, home / "policies" / policy, alias, MODEL)
        begin_test(store, clock)
        clock.now = datetime.now(UTC) - timedelta(minutes=20)
        receive(store, clock)
    if try_them:
        spec = GateSpec(look=250, slowdown=1_000.0, guards=("page",), reward=REWARD)
        named = [find(settings, reference) for reference in ("champion", "2", "3")]
        try_challengers(settings, named[0], named[1:], spec)


def begin_test(store: Store, clock: Clock) -> None:
    """Start a test of four fifths and one fifth, in which the smaller variant does better, over two days."""
    variants = {"old": {"policy": "linear_thompson", "share": 0.8}, "new": {"policy": "rfm_bandit", "share": 0.2}}
    read = {"guardrails": {"complaint": -1.0}, "segments": ["page"], "secondary": ["purchase"]}
    fields = {"name": "greener", "variants": variants, "control": "old", "read": read, "objective": OBJECTIVE}
    start(store, ABTest.model_validate(fields), by="ann", why="does it earn more?")
    for day in range(2):
        clock.advance(3_600)
        expose(store, clock, {"old": 480, "new": 120}, {"old": 0.2, "new": 0.45}, f"d{day}")
        clock.advance(86_400)  # over midnight, whatever time it is now


def expose(store: Store, clock: Clock, users: Mapping[str, int], clicks: Mapping[str, float], day: str) -> None:
    """Let each variant's users have four decisions, of which a share is clicked on, and let the windows close."""
    rows, reports = list[Any](), list[Feedback]()
    for variant, count in users.items():
        for number in range(4 * count):
            one = f"{day}-{variant}-{number}"
            context = {"page": f"page{number % 3}"}
            given: dict[str, Any] = {"abtest": "greener", "variant": variant, "time": clock.now, "context": context}
            given["objective"] = OBJECTIVE
            rows.append(decision(one, user_id=f"{day}{variant}{number // 4}", **given))
            if (number * 7919 % 1000) / 1000 < clicks[variant]:
                reports.append(Feedback(feedback_id=f"f-{one}", decision_id=one, item_id="a", kind="click"))
            if number % 37 == 0:
                reports.append(Feedback(feedback_id=f"c-{one}", decision_id=one, item_id="a", kind="complaint"))
    store.insert(rows)
    store.insert(reports)
    clock.advance(700)


def receive(store: Store, clock: Clock) -> None:
    """Let a node send rows for 20 minutes, some of which are rejected."""
    for minute in range(20):
        rows = list[Any]()
        for number in range(30 + minute):
            rows.append(Event(node_id="online_retail", event_id=f"e{minute}-{number}", user_id=f"u{number}", record={}))
        for number in range(3):
            value = ("anna@example.org", "-12", None)[number]
            rule, column = (
                ("type of customer", "customer"),
                ("quantity > 0", "quantity"),
                ("customer present", "customer"),
            )[number]
            record = {"Customer ID": value, "Quantity": "1"}
            rows.append(
                Reject(
                    node_id="online_retail",
                    reject_id=f"r{minute}-{number}",
                    source="http",
                    row=number,
                    rule=rule,
                    column=column,
                    value=value,
                    record=record,
                )
            )
        store.insert(rows)
        clock.advance(60)


def console_of(home: Path, store: Store) -> FastAPI:
    """Return a console over a service without a learner that has this home, at which the gate asks as `GATE` says."""
    config = ConsoleConfig(home=str(home), gate=str(home / "gate.toml"), access_log=False)
    return create_console(ServiceDesk(shop_service(store)), store, KeyRing(store), config)


@contextmanager
def serving(console: FastAPI) -> Iterator[str]:
    """Serve a console from a thread, and yield its URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(console, port=port, log_level="warning", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run)
    thread.start()
    wait_for(lambda: server.started, 30)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
