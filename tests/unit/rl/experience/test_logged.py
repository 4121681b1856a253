"""Transitions of the whole log in bulk are those of its decisions one by one, archived or not."""

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.attribution.columns import CASES
from data.attribution.join import GRACE, Outcome, join
from data.attribution.transitions import transitions
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback, Slot
from rl.experience import logged
from rl.experience.logged import REPORT, TransitionQuery, logged_transitions
from rl.experience.survey import Survey, survey
from tests.support.archives import DAY, archive, some_decision, write_days
from tests.support.clocks import NOON, Clock

pytestmark = pytest.mark.heavy
SPEC = RewardSpec(wait_s=3_600.0, default=-0.5, aggregation="sum", session_gap_s=86_400.0)


def judge(store: Store, query: TransitionQuery) -> list[Outcome]:
    decisions = [d for _, d in store.decisions(loop=query.loop) if d.mode != "log" and d.time <= query.until]
    feedback = store.feedback_of([decision.decision_id for decision in decisions])
    now = query.until + timedelta(seconds=query.spec.wait_s) + GRACE
    return list(join(decisions, feedback, query.spec, now))


def one_by_one(store: Store, query: TransitionQuery) -> pa.Table:
    outcomes = judge(store, query)
    return transitions(outcomes, query.discount, query.spec.session_gap_s if query.discount else -1.0)


def in_bulk(query: TransitionQuery) -> pa.Table:
    blocks: Iterable[Any] = logged_transitions(query).iter_batches(batch_format="pyarrow", batch_size=None)
    tables = [query.schema.empty_table(), *(block.cast(query.schema) for block in blocks)]
    return pa.concat_tables(tables).combine_chunks()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.mark.slow
@pytest.mark.parametrize("discount", [0.0, 0.9])
def test_they_are_the_same_and_in_the_same_order(
    ray_local: None, url: str, tmp_path: Path, discount: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "_TASK_ROWS", 30)
    clock = Clock()
    with closing(Store.open(url, clock)) as store:
        write_days(store, clock, 150)
        named = tuple(Slot(slot_id=f"s{n}") for n in range(2))
        special = [
            some_decision(1_000, clock(), slots=named),
            some_decision(1_001, clock(), mode="log"),
            some_decision(1_002, clock(), loop="other"),
            some_decision(1_003, clock(), slate=(), propensities=(), scores=()),
            some_decision(1_004, clock(), deferred=True),
        ]
        reports = [
            Feedback(feedback_id=f"x{d.decision_id}", decision_id=d.decision_id, item_id="s1", kind="click")
            for d in special
        ]
        store.insert([*special, *reports])
        query = TransitionQuery(url, SPEC, clock() + timedelta(hours=1), discount=discount)
        expected = one_by_one(store, query)
        assert 140 < expected.num_rows < 155
        assert in_bulk(query) == expected
        archive(store, tmp_path / "archive")
        assert in_bulk(query) == expected
        late = next(d for _, d in store.decisions() if isinstance(d, Decision) and d.time < NOON + DAY)
        clock.now = late.time + timedelta(minutes=1)
        store.insert([Feedback(feedback_id="late", decision_id=late.decision_id, kind="click", value=7.0)])
        assert in_bulk(query) == one_by_one(store, query) != expected
        assert survey(query) == survey_one_by_one(store, query)
        with_reports = in_bulk(replace(query, reports=True))
        assert with_reports.drop_columns("reports") == one_by_one(store, query)
        ids: list[str] = with_reports["decision_id"].to_pylist()
        of = store.feedback_of(ids)
        told = [[{f.name: getattr(report, f.name) for f in REPORT} for report in of.get(name, ())] for name in ids]
        assert with_reports["reports"].to_pylist() == told


def survey_one_by_one(store: Store, query: TransitionQuery) -> Survey:
    outcomes = judge(store, query)
    cases = Counter({case: 0 for case in CASES}) + Counter(case for one in outcomes for case in one.cases)
    cases["missing"] = sum(one.missing for one in outcomes)
    cases["orphan"] = 15  # see `write_days`
    items = sorted({item for one in outcomes for item in one.decision.candidates})
    return Survey(
        decisions=len(outcomes),
        due=sum(one.due for one in outcomes),
        candidates=max(len(one.decision.candidates) for one in outcomes),
        items=tuple(items),
        cases={case: cases[case] for case in (*CASES, "missing", "orphan")},
    )


def test_an_empty_log_has_none(ray_local: None, url: str) -> None:
    Store.open(url).close()
    assert in_bulk(TransitionQuery(url, SPEC, NOON)).num_rows == 0
