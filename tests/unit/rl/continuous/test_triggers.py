"""When a run is due."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from data.log.store import Store
from data.settings import Settings
from rl.continuous.runs import Run
from rl.continuous.specification import ContinuousSpec, Trigger
from rl.continuous.triggers import describe_change, find_reason
from tests.support.clocks import Clock
from tests.support.gates import REWARD, log_by_chance


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


def test_a_change_of_what_decisions_earn_is_seen_and_chance_is_not() -> None:
    rng, false = np.random.default_rng(0), 0
    for _ in range(200):
        before, after = (rng.random(1_000) < 0.3).astype(float), (rng.random(1_000) < 0.3).astype(float)
        false += describe_change(before, after) is not None
    assert false == 0  # at five standard errors one in a million is
    better = (rng.random(1_000) < 0.5).astype(float)
    assert (describe_change(before, better) or "").startswith("drift: a decision earns 0.")
    assert describe_change(before[:400], better) is None  # too few to say
