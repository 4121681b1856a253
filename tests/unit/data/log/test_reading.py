"""Transactions that read: one within another is the same, and what is read once is one statement."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from data.errors import DataError
from data.log.archived.parts import PartGone
from data.log.archived.reading import from_both
from data.log.errors import StoreError
from data.log.loops import Ends, LoopEnds
from data.log.store import Store
from data.log.tables import DECISIONS
from data.schema import Feedback
from tests.support.archives import archive, write_days
from tests.support.clocks import Clock
from tests.support.records import decision
from tests.support.statements import counted

LAST = sa.select(sa.func.max(DECISIONS.table.c.seq))


def test_what_is_read_within_a_transaction_is_of_its_state(store: Store) -> None:
    store.insert([decision("d1", "ann")])
    with store.reading() as outer:
        assert store.last_decision() == 1
        with ThreadPoolExecutor(1) as other:  # whose transactions are its own
            other.submit(store.insert, [decision("d2", "ann")]).result()
            assert other.submit(store.last_decision).result() == 2
        with store.reading() as inner:
            assert inner is outer
        assert store.last_decision() == store.read_once(LAST)[0][0] == 1
        assert store.archived(outer) is store.archived(outer)
    assert store.last_decision() == store.read_once(LAST)[0][0] == 2


def test_what_fails_within_a_transaction_is_said_as_elsewhere_and_the_next_is_a_new_one(store: Store) -> None:
    with store.reading() as outer:
        with pytest.raises(StoreError, match="nowhere"), store.reading() as inner:
            inner.exec_driver_sql("SELECT * FROM nowhere")
        assert not outer.closed
    with pytest.raises(StoreError, match="nowhere"):
        store.read_once(sa.text("SELECT * FROM nowhere"))
    with store.reading() as after:
        assert after is not outer
    assert store.read_once(LAST) == [(None,)]


def test_who_reads_archive_and_log_around_others_begins_anew_for_them() -> None:
    tries = list[str]()

    @from_both
    def inner() -> None:
        tries.append("inner")
        if tries.count("outer") < 3:
            raise PartGone("a file")

    @from_both
    def outer() -> None:
        tries.append("outer")
        inner()

    outer()
    assert tries == ["outer", "inner"] * 3
    tries.clear()
    inner_alone: Callable[[], None] = inner
    with pytest.raises(DataError, match="the archive lacks a file"):
        inner_alone()
    assert tries == ["inner"] * 5


def test_the_ends_of_loops_are_one_statement(store: Store) -> None:
    ends = LoopEnds(store)
    assert ends.look({"v1", "other"}) == {"v1": Ends(0, 0), "other": Ends(0, 0)}
    store.insert([decision(f"d{number}", "ann") for number in range(3)])
    store.insert([decision("e", "ann").model_copy(update={"loop": "other"})])
    store.insert([Feedback(feedback_id="f1", decision_id="d1", kind="click")])
    store.insert([Feedback(feedback_id="f2", decision_id="e", kind="click", loop="other")])
    with counted(store) as said:
        found = ends.look({"v1", "other", "third"})
    assert found == {"v1": Ends(3, 1), "other": Ends(4, 2), "third": Ends(0, 0)}
    assert len(said) == 1
    store.insert([Feedback(feedback_id="f3", decision_id="d1", kind="click")])
    assert ends.look({"v1", "other", "third"}) == found | {"v1": Ends(3, 3)}
    assert ends.look({"v1", "other", "third"}) == LoopEnds(store).look({"v1", "other", "third"})


def test_the_archive_counts_for_all_loops(store: Store, clock: Clock, tmp_path: Path) -> None:
    write_days(store, clock, 20)
    clock.advance(timedelta(days=30).total_seconds())
    before = LoopEnds(store).look({"v1"})["v1"]
    assert archive(store, tmp_path / "archive").rows["decisions"] > 0
    assert LoopEnds(store).look({"v1"})["v1"] == before
    assert LoopEnds(store).look({"nobody's"})["nobody's"].decisions > 0
