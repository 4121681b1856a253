"""How many replicas are wanted: known answers by hand, and a Prometheus over HTTP that answers, or does not."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray import cloudpickle
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve import autoscaling
from serve.autoscaling import WINDOW_S, Replicas, count_replicas
from tests.support.prometheus import prometheus
from tests.support.services import wait_for

NOW, BOUND_MS = 1_000.0, 100.0


def context(
    requests: float, running: int = 2, target: int | None = None, state: dict[str, Any] | None = None, now: float = NOW
) -> AutoscalingContext:
    """A deployment whose replicas are to have two requests each."""
    return AutoscalingContext(
        deployment_id=DeploymentID("Gateway", "raycommend"),
        deployment_name="Gateway",
        app_name="raycommend",
        current_num_replicas=running,
        target_num_replicas=running if target is None else target,
        running_replicas=[],
        total_num_requests=requests,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=10,
        policy_state=state or {},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now,
        config=AutoscalingConfig(min_replicas=1, max_replicas=10, target_ongoing_requests=2),
    )


def settled(running: int = 2) -> dict[str, Any]:
    """Return what is remembered where all that are wanted have run for long."""
    return count_replicas(context(4.0, running, now=NOW - WINDOW_S), None, None)[1]


@pytest.mark.parametrize(("requests", "wanted"), [(0.0, 0.0), (1.0, 0.5), (4.0, 2.0), (10.0, 5.0)])
def test_without_a_p99_requests_alone_decide_as_in_serves_own_policy(requests: float, wanted: float) -> None:
    assert count_replicas(context(requests), None, None)[0] == wanted
    assert count_replicas(context(requests), None, BOUND_MS)[0] == wanted  # nobody has asked yet: no sample
    assert count_replicas(context(requests, state=settled()), 10.0, BOUND_MS)[0] == wanted  # and where it is low


@pytest.mark.parametrize(
    ("p99_ms", "wanted"),
    [(70.0, 0.5), (71.0, 2.0), (100.0, 2.0), (150.0, 3.0), (200.0, 4.0), (10_000.0, 4.0)],
)
def test_p99_keeps_what_runs_near_its_bound_and_adds_above_it_at_most_as_many(p99_ms: float, wanted: float) -> None:
    assert count_replicas(context(1.0, state=settled()), p99_ms, BOUND_MS)[0] == pytest.approx(wanted)


def test_the_larger_number_counts() -> None:
    assert count_replicas(context(20.0, state=settled()), 150.0, BOUND_MS)[0] == 10.0


def test_p99_adds_none_while_replicas_start_and_for_its_window_after() -> None:
    """It is of the time with fewer: else five that have just started would be taken for too few."""
    wanted, state = count_replicas(context(8.0, running=2, target=4), 500.0, BOUND_MS)
    assert (wanted, state) == (4.0, {})
    wanted, state = count_replicas(context(2.0, running=4), 500.0, BOUND_MS)
    assert wanted == 4.0  # nor does one go
    for later, wanted in ((WINDOW_S - 1, 4.0), (WINDOW_S, 8.0)):
        found, state = count_replicas(context(2.0, running=4, state=state, now=NOW + later), 500.0, BOUND_MS)
        assert found == wanted


def test_the_first_replica_is_serves_own_to_start() -> None:
    assert count_replicas(context(3.0, running=0), 500.0, BOUND_MS)[0] >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prometheus": "http://x"}, "prometheus and p99_ms go together, got 'http://x' and None"),
        ({"p99_ms": 5}, "prometheus and p99_ms go together, got None and 5"),
        ({"prometheus": "http://x", "p99_ms": 0}, "p99_ms must be positive, got 0"),
        ({"prometheus": "http://x", "p99_ms": float("nan")}, "p99_ms must be positive, got nan"),
    ],
)
def test_a_bound_without_a_prometheus_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Replicas(**options)


def test_without_a_prometheus_nobody_is_asked_whatever_rays_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_PROMETHEUS_HOST", "http://127.0.0.1:1")
    policy = Replicas()
    assert policy(context(10.0))[0] == 5.0
    assert not policy._started


@contextmanager
def heard() -> Iterator[list[str]]:
    """Yield what Serve's logger is told, which hands nothing on by itself once Serve has set it up."""
    said: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Handler()
    autoscaling.log.addHandler(handler)
    try:
        yield said
    finally:
        autoscaling.log.removeHandler(handler)


def eventually(policy: Replicas, wanted: float) -> None:
    """Ask until so many are wanted."""
    wait_for(lambda: policy(context(1.0, state=settled()))[0] == pytest.approx(wanted), 10)


def asking(at: str) -> Replicas:
    return Replicas(prometheus=at, p99_ms=BOUND_MS, every_s=0.05)


def test_a_prometheus_is_asked_and_counts() -> None:
    with prometheus() as server:
        server.value = 150.0
        policy = asking(server.url)
        eventually(policy, 3.0)
        assert set(server.queries) == {policy._query}
        assert 'application="raycommend"' in policy._query
        server.value = None  # no requests
        eventually(policy, 0.5)
        policy._cache.stop.set()


def test_one_that_does_not_answer_is_said_once_and_requests_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoscaling, "_SILENT_S", 0.1)
    with heard() as said, prometheus() as server:
        server.value, server.status = 150.0, 500
        policy = asking(server.url)

        def is_silent(queries: int, lines: int) -> bool:
            assert policy(context(10.0, state=settled()))[0] == 5.0
            return len(server.queries) >= queries and len(said) >= lines

        wait_for(lambda: is_silent(1, 2), 10)
        more = len(server.queries) + 3
        wait_for(lambda: is_silent(more, 2), 10)
        alone = f"Prometheus at {server.url} does not answer: replicas are scaled by requests alone"
        assert said.count(alone) == 1
        [why] = [line for line in said if line != alone]
        assert why.endswith("HTTP Error 500: Internal Server Error")
        server.status = 200
        eventually(policy, 3.0)
        assert said[2:] == [f"Prometheus at {server.url} answers again: replicas are scaled by p99 too"]
        policy._cache.stop.set()


def test_what_a_policy_keeps_out_of_the_log_is_its_own_and_goes_with_it() -> None:
    others = list(autoscaling.log.filters)
    policy = Replicas(prometheus="http://x", p99_ms=1)
    [repeats] = [one for one in autoscaling.log.filters if one not in others]
    assert isinstance(repeats, autoscaling.Repeats)
    line = partial(logging.LogRecord, "", logging.WARNING, "", 0, "Failed to evaluate Prometheus query %r: %s")
    kept = [
        (policy._query, "none"),
        (policy._query, "none"),
        (policy._query, "401"),
        ("other", "401"),
        ("other", "401"),
    ]
    assert [repeats.filter(line(of, None)) for of in kept] == [True, False, True, True, True]
    del policy
    assert autoscaling.log.filters == others


def test_it_can_be_shipped_to_the_controller_as_serve_does() -> None:
    """By value: the controller need not have our code."""
    made = AutoscalingConfig(
        min_replicas=1,
        max_replicas=3,
        policy={
            "policy_function": "serve.autoscaling:Replicas",
            "policy_kwargs": {"prometheus": "http://127.0.0.1:1", "p99_ms": 50},
        },
    ).policy
    pickled = made.get_serialized_policy_def()
    assert pickled is not None
    assert b"count_replicas" in pickled
    policy = cloudpickle.loads(pickled)()
    assert policy(context(10.0))[0] == 5.0


@pytest.mark.parametrize("path", ["serve/config.yaml", "serve/deploy/service.yaml"])
def test_the_services_that_ship_are_scaled_by_it(path: str) -> None:
    applications = yaml.safe_load(Path(path).read_text())["applications"]
    (application,) = (one for one in applications if one["name"] == "raycommend")
    gateway = next(one for one in application["deployments"] if one["name"] == "Gateway")
    config = AutoscalingConfig(**gateway["autoscaling_config"])
    assert config.policy.policy_function == "serve.autoscaling:Replicas"
    Replicas(**config.policy.policy_kwargs)


def test_the_query_names_the_application() -> None:
    assert 'application="other"' in Replicas(prometheus="http://x", p99_ms=1, application="other")._query
