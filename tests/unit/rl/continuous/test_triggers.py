"""When a run is due."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.log.store import Store
from data.settings import Settings
from rl.continuous.runs import Run
from rl.continuous.specification import ContinuousSpec, Trigger
from rl.continuous.triggers import find_reason
from tests.support.clocks import Clock
from tests.support.gates import REWARD, log_by_chance

pytestmark = pytest.mark.heavy


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A log of 700 decisions, of which the last run has seen the first 100."""
    clock = Clock()
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, "12345678", 700)
        yield store


def last(tmp_path: Path, began: datetime | None = None) -> Run:
    found = {"reward": REWARD.model_dump(mode="json"), "first": 1, "last": 100}
    time = (began or datetime.now(UTC)).isoformat()
    return Run(tmp_path, 1, "id", {}, "data", time, {"ingest": found})


def reason(store: Store, tmp_path: Path, began: datetime | None = None, **trigger: object) -> str | None:
    spec = ContinuousSpec(name="drinks", trigger=Trigger(**{"decisions": None, "drift": False, **trigger}))
    return find_reason(spec, Settings(home=tmp_path), store, last(tmp_path, began))


def test_so_many_new_decisions_make_a_run_due(store: Store, tmp_path: Path) -> None:
    assert reason(store, tmp_path, decisions=601) is None
    assert reason(store, tmp_path, decisions=600) == "data: 600 new decisions have closed"


def test_so_much_time_makes_a_run_due(store: Store, tmp_path: Path) -> None:
    assert reason(store, tmp_path, every_s=60.0) is None
    late = datetime.now(UTC) - timedelta(seconds=61)
    assert reason(store, tmp_path, late, every_s=60.0) == "time: 60 s since the last run"


@pytest.mark.parametrize("sold", [0.0, 0.6])
def test_what_has_changed_since_the_last_run_makes_one_due(tmp_path: Path, sold: float) -> None:
    """Nothing sells any more from then on; or as much as before, and nothing is due."""
    clock = Clock()
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, "12345678", 1_500, sold=lambda page, drink: 0.6)
        until = clock() - timedelta(seconds=500)
        log_by_chance(store, clock, "12345678", 1_500, 1, sold=lambda page, drink: sold)
        run = last(tmp_path)
        run.steps["ingest"] |= {"last": 1_500, "until": until.isoformat()}
        spec = ContinuousSpec(name="drinks", trigger=Trigger(decisions=None))
        why = find_reason(spec, Settings(home=tmp_path), store, run)
    assert (why is not None) == (sold == 0.0)
    assert why is None or why.startswith("drift: a decision earns 0 in the mean, in the last run's data it was 0.")
