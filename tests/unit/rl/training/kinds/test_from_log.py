"""What the service has logged as tables of sessions."""

from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.attribution.transitions import TRANSITION_SCHEMA
from data.errors import DataError
from data.log.store import Store
from data.settings import Settings
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.logged import REPORT
from rl.experience.transitions import describe
from rl.policies.baselines import Popularity
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import CLICK, IGNORED, PURCHASE, SHOWN
from rl.training.kinds.offline.experiment import OfflineExperiment, Sessions
from rl.training.kinds.offline.from_log import build_table, find_histories
from rl.training.kinds.offline.judge import judge
from tests.support.clocks import NOON, Clock
from tests.support.logged_shop import ITEMS, SPEC, write_sessions

CATALOGUE = CatalogueEncoder(("a", "b", "c"))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def row(name: str, made_s: float, slate: str, *reports: tuple[float, str, str], **others: Any) -> dict[str, Any]:
    told = [{"item_id": item, "kind": kind, "value": 1.0, "received_at": at(when)} for when, kind, item in reports]
    usual = {"decision_id": name, "user_id": "u", "time": at(made_s), "slate": [*slate], "reports": told}
    return dict.fromkeys(TRANSITION_SCHEMA.names) | usual | others


def histories(*rows: dict[str, Any]) -> tuple[list[list[tuple[int, ...]]], list[list[tuple[int, ...]]]]:
    """Return the entries before each row, and before what follows it: item, outcome and age."""
    table = pa.Table.from_pylist([*rows], TRANSITION_SCHEMA.append(pa.field("reports", pa.list_(REPORT))))
    found = find_histories(table, CATALOGUE, 4, wait_s=100.0)
    before, after = ([[tuple(entry) for entry in one.tolist() if entry[2]] for one in array] for array in found)
    return before, after


def test_a_history_is_what_was_known_when_the_decision_was_made() -> None:
    before, after = histories(
        row("d1", 0, "ab", (5, "click", "b"), (20, "purchase", "a"), next_decision_id="d2"),
        row("v1", 5, "c", user_id="v"),
        row("d2", 10, "c", next_decision_id="d3"),
        row("d3", 50, "b", (49, "click", "b"), next_decision_id="d4"),
        row("d4", 200, "a"),
    )
    assert before[0] == before[1] == []
    assert before[2] == [(1, IGNORED, 1), (2, CLICK, 1)]  # the purchase came later
    assert before[3] == [(1, PURCHASE, 2), (2, CLICK, 2), (3, SHOWN, 1)]
    assert before[4] == [(1, PURCHASE, 3), (2, CLICK, 3), (3, IGNORED, 2), (2, CLICK, 1)]  # d2's wait was over
    assert after == [before[2], [], before[3], before[4], []]


def test_what_comes_before_a_decision_that_is_not_in_the_table_is_what_was_known_after_the_wait() -> None:
    before, after = histories(row("d1", 0, "ab", (5, "click", "b"), next_decision_id="not due"))
    assert (before, after) == ([[]], [[(1, IGNORED, 1), (2, CLICK, 1)]])


def test_nobody_has_no_history() -> None:
    assert histories(row("d1", 0, "a", user_id=None), row("d2", 5, "a", user_id=None)) == ([[], []], [[], []])


def settings_of(home: Path, users: int) -> Settings:
    home.mkdir()
    settings = Settings(home=home, store=None, archive=None)
    with closing(Store.open(settings.store_url, clock := Clock())) as store:
        write_sessions(store, clock, users, seed=0)
    return settings


def experiment(**fields: Any) -> OfflineExperiment:
    return OfflineExperiment(name="logged", source="log", reward=SPEC, **fields)


@pytest.mark.heavy
def test_the_log_of_a_shop_becomes_two_tables_of_whole_sessions(ray_local: None, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "home", users=80)
    sessions = Sessions(discount=0.5, held_out=0.3)
    with build_table(experiment(sessions=sessions, table=str(tmp_path / "kept")), settings) as logged:
        assert (logged.survey.decisions, logged.survey.due, logged.survey.candidates) == (1_600, 1_600, 10)
        assert logged.survey.items == logged.encoder.items == ITEMS
        assert (logged.survey.cases["counted"], logged.survey.cases["missing"]) == (1_600, 0)
        table = describe(logged.learned)
        assert (table.n_items, table.shapes["history"], table.rows) == (10, (20, 3), logged.rows)
        judges = pa.concat_tables([pq.read_table(path) for path in logged.held_out])
        assert logged.rows + judges.num_rows == 1_600
        assert 0.1 < judges.num_rows / 1_600 < 0.5
        both = pa.concat_tables([pq.read_table(logged.learned), judges])
        assert both.group_by("episode").aggregate([("step", "max"), ("step", "count")]).to_pylist() == [
            {"episode": name, "step_max": 19, "step_count": 20} for name in both["episode"].unique().to_pylist()
        ]
        assert set(both.filter(pa.compute.equal(both["step"], 19))["discounts"].to_pylist()) == {0.0}
        assert set(both.filter(pa.compute.less(both["step"], 19))["discounts"].to_pylist()) == {0.5}
        random, rng = Popularity(np.arange(11.0)), np.random.default_rng(0)
        random.explorer = EpsilonGreedy(epsilon=1.0)
        judged = judge(random, logged.held_out, 1.0, rng)
        assert judged["sessions_held_out"] == judges.num_rows // 20
        assert judged["behaviour_return"] == pytest.approx(sum(judges["rewards"].to_pylist()) / (judges.num_rows / 20))
        assert "abstained" in judged  # 24 sessions
    assert Path(logged.learned).is_dir()
    with (
        pytest.raises(DataError, match="holds something: give a new folder as --table"),
        build_table(experiment(table=str(tmp_path / "kept")), settings),
    ):
        pass
    with build_table(experiment(), settings) as logged:
        assert Path(logged.learned).is_dir()
    assert not Path(logged.learned).exists()


@pytest.mark.heavy
def test_a_log_without_decisions_is_refused(ray_local: None, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store=None, archive=None)
    Store.open(settings.store_url).close()
    with pytest.raises(DataError, match="no decision of loop v1 to learn from"), build_table(experiment(), settings):
        pass
