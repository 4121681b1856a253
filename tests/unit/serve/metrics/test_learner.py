"""What the learner counts and reads of a log."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.log.store import Store
from data.schema import Feedback
from rl.online.state import FoldState
from serve.config import DailyArchive, ServiceConfig
from serve.metrics import definitions as of
from serve.metrics.examined import Estimated, Examined
from serve.metrics.learner import LearnerMetrics
from serve.metrics.meter import Meter
from serve.metrics.replica import Names
from serve.metrics.setup import learner_metrics, replica_metrics
from tests.support.meters import Numbers
from tests.support.records import decision, event

PLACE = ("v1", "default")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        yield store


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def metrics(store: Store, numbers: Numbers, tmp_path: Path) -> LearnerMetrics:
    folders = {"home": tmp_path, "archive": tmp_path / "not-there-yet"}
    names = Names(("shop",), ("view", "click"))
    return LearnerMetrics(Meter("learner", numbers), store, names, ("online_retail",), folders, timedelta(seconds=10))


def state(**fields: object) -> FoldState:
    usual: dict[str, object] = {"loop": "v1", "objective": "default", "fold_id": "f", "as_of": datetime.now(UTC)}
    return FoldState.model_validate(usual | fields)


def test_the_log_is_read_from_its_end_on(store: Store, numbers: Numbers, metrics: LearnerMetrics) -> None:
    now = datetime.now(UTC)
    store.insert([decision("d", node_id="shop", time=now - timedelta(seconds=20)), event("1")])
    store.insert([Feedback(feedback_id=name, decision_id="d", kind=name) for name in ("view", "click", "odd")])
    metrics.look([state()], {PLACE: 3.0})
    assert numbers.by(of.NODE_FEEDBACK, "node", "kind") == {
        ("shop", "view"): 1,
        ("shop", "click"): 1,
        ("shop", "other"): 1,
    }
    [delay] = numbers.values(of.SHOWN, node="shop")
    assert 20 <= delay < 40
    assert numbers.of(of.LAST_SEEN, node="online_retail") == pytest.approx(now.timestamp(), abs=20)
    assert numbers.of(of.LOG_SIZE) > 0
    assert numbers.of(of.DISK_SIZE, folder="home") > numbers.of(of.DISK_FREE, folder="home") > 0
    assert numbers.values(of.DISK_FREE, folder="archive") == []
    metrics.look([state()], {PLACE: 3.0})
    assert sum(numbers.values(of.NODE_FEEDBACK)) == 3


def test_a_fold_is_measured(store: Store, numbers: Numbers, metrics: LearnerMetrics) -> None:
    store.insert([decision("d", time=datetime.now(UTC) - timedelta(seconds=20)), decision("e")])
    metrics.look([state(waiting=7, rows_set_aside=2, state="failed")], {PLACE: 3.0})
    assert numbers.of(of.WAITING) == 7
    assert (numbers.of(of.SET_ASIDE), numbers.of(of.FAILED), numbers.of(of.SNAPSHOT_AGE)) == (2, 1, 3.0)
    assert numbers.of(of.LAG_ROWS, table="decisions") == 2
    assert numbers.of(of.LAG) >= 20


def test_reports_are_counted_as_they_come_not_those_of_before(numbers: Numbers, metrics: LearnerMetrics) -> None:
    for fold, reports in (("f", {"counted": 100}), ("f", {"counted": 103, "orphan": 2}), ("g", {"counted": 500})):
        metrics.look([state(fold_id=fold, reports=reports)], {})
    found = {case: n for (case,), n in numbers.by(of.JUDGED, "case").items() if n >= 1}
    assert found == {"counted": 3, "orphan": 2}


def test_a_day_lags_when_it_could_have_been_archived(store: Store, numbers: Numbers, metrics: LearnerMetrics) -> None:
    metrics.look([], {})
    assert numbers.of(of.ARCHIVE_LAG) == 0
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    store.insert([decision("d", time=midnight - timedelta(days=2, hours=3))])
    metrics.look([], {})
    expected = (datetime.now(UTC) - midnight + timedelta(days=2)).total_seconds() - 10
    assert numbers.of(of.ARCHIVE_LAG) == pytest.approx(expected, abs=30)


def test_examinations_and_archiving(numbers: Numbers, metrics: LearnerMetrics) -> None:
    one = Estimated(test="t", variant="v", value=1, low=0.5, high=1.5, decisions=900, effective_decisions=30)
    metrics.examined(Examined(audited={"repeated": 10, "mismatch": 1}, deviation=2.5, off_policy=(one,)))
    metrics.examined(None)
    metrics.archived({"decisions": 5, "feedback": 0}, 2.0)
    metrics.archived(None)
    metrics.meter.flush()
    assert numbers.of(of.AUDITED, result="mismatch") == 1
    assert numbers.of(of.OFF_POLICY, test="t", variant="v", bound="low") == 0.5
    assert (numbers.of(of.EFFECTIVE), numbers.of(of.WEIGHED)) == (30, 900)
    assert numbers.of(of.ARCHIVED, kind="decisions") == pytest.approx(5)
    assert numbers.of(of.ARCHIVE_RUN) == 2.0
    assert numbers.of(of.ARCHIVE_ERRORS) == numbers.of(of.EXAMINE_ERRORS) == 1


def test_the_configuration_turns_all_of_it_off(store: Store, tmp_path: Path) -> None:
    config = ServiceConfig(home=str(tmp_path), metrics=False)
    assert replica_metrics(config, "r") is None
    assert learner_metrics(config, store) is None
    on = ServiceConfig(home=str(tmp_path), archive=DailyArchive(keep_days=2))
    assert replica_metrics(on, "r") is not None
    assert learner_metrics(on, store) is not None
