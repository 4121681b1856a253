"""A replica's counts: by what is configured, exact, whatever clients send."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from data.log.errors import StoreUnavailable
from data.log.insertion.appender import Stored
from data.schema import SHADOW, AnyRecord, Feedback
from serve.metrics import definitions as of
from serve.metrics.meter import Meter
from serve.metrics.replica import Names, ReplicaMetrics
from tests.support.meters import Numbers
from tests.support.records import decision, event


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def metrics(numbers: Numbers) -> ReplicaMetrics:
    return ReplicaMetrics(Meter("r1", numbers), Names(("shop",), ("view", "click")), ("online_retail",), ("busy",))


def commit(metrics: ReplicaMetrics, records: Sequence[AnyRecord], stored: Sequence[Stored] | Exception) -> None:
    async def committing() -> list[Stored]:
        if isinstance(stored, Exception):
            raise stored
        return list(stored)

    asyncio.run(_await(metrics, records, committing()))


async def _await(metrics: ReplicaMetrics, records: Sequence[AnyRecord], committing: object) -> None:
    await metrics.commit(records, committing)  # type: ignore[arg-type]


def report(name: str, decision_id: str = "d", kind: str = "view") -> Feedback:
    return Feedback(feedback_id=name, decision_id=decision_id, kind=kind)


def test_decisions_are_counted_by_node_where_they_are_new(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    made = [decision("1", node_id="shop"), decision("2", node_id="unheard-of"), decision("3"), decision("4")]
    shadow = decision("s", loop=SHADOW)
    stored = [Stored(one, one.decision_id != "4", n) for n, one in enumerate([*made, shadow])]
    commit(metrics, [*made, shadow], stored)
    metrics.meter.flush()
    assert numbers.by(of.DECISIONS, "node", "policy", "mode") == {
        ("shop", "p", "explore"): 1,
        ("other", "p", "explore"): 1,
        ("none", "p", "explore"): 1,
    }
    assert numbers.of(of.LOGGED, kind="decisions") == pytest.approx(4)
    assert len(numbers.values(of.COMMIT, kind="decisions")) == 1


def test_a_commit_that_fails_is_counted_by_its_error_and_still_fails(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    with pytest.raises(StoreUnavailable):
        commit(metrics, [decision("1")], StoreUnavailable("gone"))
    metrics.meter.flush()
    assert numbers.by(of.LOG_ERRORS, "error") == {("StoreUnavailable",): 1}
    assert numbers.values(of.COMMIT) == []


@pytest.mark.parametrize(
    ("first", "mode", "drawn", "explored"),
    [
        ([0.5, 0.5], "explore", 1, 0),
        ([0.5, 0.3, 0.2], "explore", 1, 0),
        ([0.5, 0.9], "explore", 1, 1),
        ([0.5, 0.9], "exploit", 0, 0),
        ([0.0, 0.0], "explore", 0, 0),  # not known
    ],
)
def test_what_is_not_the_likeliest_was_explored(
    metrics: ReplicaMetrics, numbers: Numbers, first: list[float], mode: str, drawn: int, explored: int
) -> None:
    metrics.decided(decision("1", mode=mode), np.array(first), 0.002)
    metrics.meter.flush()
    assert sum(numbers.values(of.DRAWN)) == drawn
    assert sum(numbers.values(of.EXPLORED)) == explored
    assert numbers.values(of.DECIDE) == [0.002]


def test_reports_are_counted_by_what_became_of_them(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    sent = [report("1"), report("2", kind="<script>"), report("3"), report("4"), report("5")]
    rows = [
        Stored(sent[0], True, 1),
        Stored(sent[1], True, 2),
        Stored(sent[2], False, 1),
        Stored(sent[3], True, 3, orphan=True),
        Stored(sent[4], False, 1),
    ]
    metrics.reported(sent, rows, [False, False, False, False, True])
    metrics.meter.flush()
    found = {key: n for key, n in numbers.by(of.FEEDBACK, "kind", "status").items() if n >= 1}
    assert found == {
        ("view", "stored"): 1,
        ("other", "stored"): 1,
        ("view", "known"): 1,
        ("view", "orphan"): 1,
        ("view", "contradictory"): 1,
    }
    metrics.count_contradicted(lambda ids: {"d": "shop"} if ids == {"d"} else {})
    metrics.meter.flush()
    assert numbers.of(of.NODE_REFUSED, node="shop") == pytest.approx(1)


def test_freshness_is_the_time_until_answers_have_learned_a_report(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    sent = [report(str(n)) for n in range(3)]
    metrics.reported(sent, [Stored(one, True, n + 1) for n, one in enumerate(sent)], [False] * 3)
    metrics.learned("v1", 2)
    metrics.learned("personalizer", 3)
    metrics.meter.flush()
    assert len(numbers.values(of.FRESHNESS, loop="v1")) == 2
    metrics.learned("v1", 9)
    metrics.meter.flush()
    assert len(numbers.values(of.FRESHNESS, loop="v1")) == 3
    assert all(0 <= seconds < 10 for seconds in numbers.values(of.FRESHNESS))


def test_rows_and_errors(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    metrics.ingested("online_retail", ["stored", "rejected", "rejected"], ["a", "b"], 0.1)
    for path in ("/v1/feedback", "/personalizer/v1.0/rank", "/v1/users/secret"):
        metrics.refused(path, "busy")
    commit(metrics, [event("1")], [Stored(event("1"), True, 1)])
    metrics.meter.flush()
    assert numbers.of(of.EVENTS, node="online_retail", status="rejected") == 2
    assert numbers.by(of.REJECTS, "rule") == {("a",): 1, ("b",): 1}
    assert {key: n for key, n in numbers.by(of.ERRORS, "route").items() if n >= 1} == {
        ("/v1/feedback",): 1,
        ("/personalizer",): 1,
        ("other",): 1,
    }


def test_what_alerts_watch_is_there_from_the_beginning(metrics: ReplicaMetrics, numbers: Numbers) -> None:
    metrics.meter.flush()
    assert numbers.values(of.ERRORS, route="/v1/feedback", code="busy")
    assert numbers.values(of.EVENTS, node="online_retail", status="stored")
