"""What the service says of itself, as a real Prometheus reads it: metrics, dashboards, and alerts that are heard."""

import json
import math
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from data.log.store import Store
from data.reward import RewardSpec
from serve.config import DailyArchive, Examination, ServiceConfig
from serve.metrics.definitions import METRICS
from tests.support.archives import write_days
from tests.support.clocks import Clock
from tests.support.packages import needs_package
from tests.support.records import SALE
from tests.support.services import KEY, Running, service, wait_for
from tests.support.shops import save_policies, small_market
from tests.support.watching import Prometheus, Webhook, alertmanager, prometheus_server, webhook

pytestmark = [  # one story: each test finds what those before it have left
    pytest.mark.slow,
    needs_package("prometheus"),
    needs_package("prometheus-alertmanager"),
]

_USERS = 200
_DASHBOARDS = sorted(Path("serve/deploy/grafana/dashboards").glob("*.json"))
_READ = {"least_units": 20, "switch_off": False}


class Watched(NamedTuple):
    server: Running
    prometheus: Prometheus
    webhook: Webhook

    def metrics(self) -> str:
        """Return what Ray exports, as Prometheus reads it."""
        return httpx.get(f"http://127.0.0.1:{self.server.metrics_port}/metrics").text


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two replicas, with a log that has closed days, and all that watches them."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("watching")
    save_policies(home, small_market()[1])
    config = ServiceConfig(
        home=str(home),
        policies={"linear_thompson": 1, "rfm_bandit": 0.0},
        reward=RewardSpec(wait_s=2),
        output_nodes=("shop",),
        archive=DailyArchive(),
        examination=Examination(every_s=20, decisions=100),
        look_s=2,
    )
    with closing(Store.open(config.settings.store_url, clock := Clock())) as store:
        write_days(store, clock, 60, timedelta(minutes=30))
    # Ray forgets a gauge that was not set for two reports; the learner sets its own every five seconds.
    with service(config, replicas=2) as server, webhook() as (heard, port):
        server.wait()
        with (
            alertmanager(folder, port) as alerts_port,
            prometheus_server(folder, server.metrics_port, alerts_port) as prometheus,
        ):
            yield Watched(server, prometheus, heard)


def start_tests(client: httpx.Client) -> None:
    """Start a split of users and a shadow."""
    both = {"control": {"policy": "linear_thompson"}, "other": {"policy": "rfm_bandit"}}
    for name, kind in (("half", "split"), ("unseen", "shadow")):
        test = {"name": name, "kind": kind, "variants": both, "control": "control", "read": _READ}
        client.post("/v1/abtests", json=test).raise_for_status()


def ask(client: httpx.Client, user: int) -> str:
    """Ask for a user at one of two output nodes, see the slate, and click or not; returns the decision's id."""
    body = {"user_id": f"customer-{user}", "k": 3, "node": "shop" if user % 2 else "kiosk"}
    answer = client.post("/v1/recommend", json=body).json()
    report = {"decision_id": answer["decision_id"], "item_id": answer["items"][0]["item_id"]}
    for kind in ("view", *(["click"] if user % 3 else [])):
        client.post("/v1/feedback", json={**report, "kind": kind}).raise_for_status()
    return str(answer["decision_id"])


@pytest.fixture
def traffic(watched: Watched) -> Iterator[None]:
    """Users and rows that go on coming, as rates are of what there is now."""
    ended = threading.Event()

    def go_on() -> None:
        with httpx.Client(base_url=watched.server.url, headers=KEY, timeout=30) as client:
            number = 0
            while not ended.wait(0.1):
                number += 1
                ask(client, number % _USERS)
                rows = [{**SALE, "InvoiceNo": f"A{number}"}, {**SALE, "Quantity": "many"}]
                client.post("/v1/events", json={"node": "online_retail", "records": rows})

    thread = threading.Thread(target=go_on)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_what_was_done_is_counted(watched: Watched) -> None:
    client = watched.server.client
    start_tests(client)
    wait_for(lambda: ask_policy(client) == {"linear_thompson", "rfm_bandit"}, 60)
    decisions = [ask(client, user) for user in range(_USERS)]
    rows = [SALE, {**SALE, "InvoiceNo": "536366", "Quantity": "many"}]
    results = client.post("/v1/events", json={"node": "online_retail", "records": rows}).json()["results"]
    assert [one["status"] for one in results] == ["stored", "rejected"]
    known = {"feedback_id": "known", "decision_id": decisions[1], "kind": "click"}
    for report in (known, {**known, "kind": "purchase"}, {"decision_id": "nobody's", "kind": "click"}):
        client.post("/v1/feedback", json=report)
    value = watched.prometheus.value

    def total(name: str, labels: str) -> float:
        return value(f"sum(ray_raycommend_{name}_total{{{labels}}})") or 0.0

    clicked = len([user for user in range(1, _USERS, 2) if user % 3]) + 1
    expected = {
        ("node_feedback", 'node="shop", kind="view"'): _USERS / 2,
        ("node_feedback", 'node="shop", kind="click"'): clicked,
        ("feedback", 'kind="view", status="stored"'): _USERS,
        ("feedback", 'status="contradictory"'): 1,
        ("feedback", 'status="orphan"'): 1,
        ("node_refused_feedback", 'node="shop"'): 1,
        ("decisions", 'node="shop"'): _USERS / 2,
        ("decisions", 'node="other"'): _USERS / 2,
        ("events", 'node="online_retail", status="rejected"'): 1,
        ("rejects", 'node="online_retail", rule="type of quantity"'): 1,
    }
    found = dict[tuple[str, str], float]()

    def all_counted() -> bool:
        found.update({of: total(*of) for of in expected})
        return found == expected

    wait_for(all_counted, 60, lambda: {of: n for of, n in found.items() if n != expected[of]})
    assert 0 < (value('sum(ray_raycommend_shown_delay_seconds_count{node="shop"})') or 0) <= _USERS / 2
    wait_for(lambda: total("outcomes", 'policy="linear_thompson"') > 50, 30)
    assert 0 < total("outcomes_accepted", "") <= total("outcomes", "")
    assert 0 <= total("explored", "") <= total("drawn", "")
    wait_for(lambda: value("min(ray_raycommend_learner_heard_timestamp_seconds)") is not None, 30)
    assert abs(time.time() - (value("min(ray_raycommend_learner_heard_timestamp_seconds)") or 0)) < 60


def ask_policy(client: httpx.Client) -> set[str]:
    """Return which policies have answered a few users: the test must have come to all replicas."""
    return {
        str(client.post("/v1/recommend", json={"user_id": f"early-{n}", "k": 1}).json()["policy"]["name"])
        for n in range(20)
    }


def test_promtool_finds_nothing_to_say_of_our_metrics(watched: Watched) -> None:
    lines = [line for line in watched.metrics().splitlines() if "ray_raycommend_" in line]
    ours = re.sub(r'[A-Z]\w*="[^"]*",?', "", "\n".join(lines))  # the labels that Ray adds are in camel case
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=ours + "\n", capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_labels_are_of_the_configuration_never_of_clients(watched: Watched) -> None:
    text = watched.metrics()
    assert "customer-" not in text
    assert "kiosk" not in text
    assert "nobody" not in text
    series = [line for line in text.splitlines() if line.startswith("ray_raycommend_") and "_bucket" not in line]
    assert len(series) < 1_000


@pytest.mark.parametrize("path", _DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_has_data(watched: Watched, path: Path, traffic: None) -> None:
    panels = json.loads(path.read_text())["panels"]
    lacking = {target["expr"]: panel["title"] for panel in panels for target in panel["targets"]}

    def all_have() -> bool:
        for expression in list(lacking):
            values = [float(one["value"][1]) for one in watched.prometheus.query(expression)]
            if any(math.isfinite(value) for value in values):
                del lacking[expression]
        return not lacking

    wait_for(all_have, 150, lambda: lacking)


def test_every_metric_is_exported(watched: Watched) -> None:
    def lacking() -> list[str]:
        text = watched.metrics()
        return [one.exported for one in METRICS if one.exported not in text and one.name != "log_errors"]

    wait_for(lambda: not lacking(), 60, lacking)


def test_refused_reports_are_heard_by_their_owner(watched: Watched) -> None:
    watched.webhook.heard.clear()
    for _ in range(3):
        assert watched.server.client.post("/v1/feedback", json={"decision_id": 3}).status_code == 422

    def heard() -> list[tuple[str, dict[str, Any]]]:
        return [one for one in watched.webhook.heard if one[1]["labels"].get("code") == "invalid_request"]

    wait_for(lambda: bool(heard()), 60, lambda: watched.webhook.heard)
    assert watched.webhook.receivers("FeedbackErrors") == {"data"}
    alert = heard()[0][1]
    assert alert["labels"]["severity"] == "warning"
    assert alert["annotations"]["runbook"] == "serve/RUNBOOK.md#feedbackerrors"


def test_a_decision_that_was_tampered_with_wakes_who_is_on_call(watched: Watched) -> None:
    assert "PropensityMismatch" not in watched.prometheus.firing()
    decision = ask(watched.server.client, 1)
    with sqlite3.connect(watched.server.home / "store.db") as connection:
        connection.execute("UPDATE decisions SET propensities = '[0.5,0.5,0.5]' WHERE decision_id = ?", (decision,))
    connection.close()
    wait_for(lambda: watched.webhook.receivers("PropensityMismatch") == {"on-call", "learning"}, 120)
