"""Transactions by the driver: they do what SQLAlchemy's do, and leave nothing behind where they fail."""

from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from data.log.errors import StoreError
from data.log.insertion.appender import Stored
from data.log.insertion.insert import LoggedRow, PlainTransaction, insert_rows
from data.log.store import Store
from data.schema import AnyRecord, Event, Feedback, Reject
from tests.support.packages import needs_package
from tests.support.postgres import Cluster
from tests.support.records import decision, version
from tests.support.rows import count_rows

T0 = datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC)


def click(feedback_id: str, decision_id: str) -> Feedback:
    return Feedback(feedback_id=feedback_id, decision_id=decision_id, kind="click")


FIRST = decision("d", deferred=True, propensities=(0.1 + 0.2, 1.0), scores=(-0.0, 1e300))
SENT: list[list[AnyRecord]] = [
    [FIRST, click("f", "d"), click("f", "unknown"), Event(node_id="n", event_id="e"), version()],
    [Reject(node_id="n", reject_id="r", source="http", row=3, rule="is", value="\0é"), click("g", "unknown")],
    [decision("d", "another"), decision("new"), decision("new", "another"), click("g", "d"), click("h", "new")],
]


def test_both_ways_answer_and_store_the_same(new_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    answers, rows = list[list[list[Stored]]](), list[dict[str, int]]()
    for plain in (False, True):
        monkeypatch.setenv("RAYCOMMEND_PLAIN", str(int(plain)))
        with closing(Store.open(new_url(f"plain{plain:d}"), lambda: T0)) as store:
            with store.inserting() as transaction:
                assert isinstance(transaction, PlainTransaction) is plain
            answers.append([store.insert(records) for records in SENT])
            rows.append(count_rows(store))
            assert store.decisions()[0][1] == FIRST
    assert answers[0] == answers[1]
    assert rows[0] == rows[1]
    again = answers[0][2]
    assert [(row.inserted, row.orphan) for row in again] == [
        (False, False),
        (True, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert again[2].record == decision("new")  # what was first, of one transaction too


def insert_and_fail(*arguments: Any) -> list[LoggedRow]:
    insert_rows(*arguments)
    raise RuntimeError("ours")


def test_what_fails_leaves_nothing_and_the_next_commits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((OverflowError, StoreError)):
        store.insert([decision("d"), Reject(node_id="n", reject_id="r", source="http", row=2**70, rule="is")])
    assert set(count_rows(store).values()) == {0}
    monkeypatch.setattr("data.log.insertion.appender.new_rows", lambda *_: None)
    monkeypatch.setattr("data.log.insertion.appender.insert_rows", insert_and_fail)
    with pytest.raises(RuntimeError, match="ours"):
        store.insert([decision("d")])
    monkeypatch.undo()
    assert set(count_rows(store).values()) == {0}
    assert store.insert([decision("d")])[0].inserted
    assert count_rows(store)["decisions"] == 1


STANDBY = "DO $$ BEGIN RAISE EXCEPTION 'in recovery' USING ERRCODE = '25006'; END $$"


def refused(store: Store, statement: str) -> object:
    """Run a statement that fails, and return the driver's connection that it was run by."""
    used = list[object]()
    with suppress(StoreError), store.inserting() as transaction:
        used.append(transaction.connection.connection.driver_connection)
        transaction.execute(statement, ())
        pytest.fail(f"{statement} was run")
    return used[0]


def used_next(store: Store) -> object:
    with store.inserting() as transaction:
        connection: object = transaction.connection.connection.driver_connection
    return connection


def test_a_refused_statement_costs_no_connection(store: Store) -> None:
    """Of SQLite's the last one would take the write-ahead log with it, and the log would be called lost."""
    assert refused(store, "no SQL") is used_next(store)
    assert store.insert([decision("d")])[0].inserted


@pytest.mark.heavy
@needs_package("postgresql")
def test_a_server_that_has_become_a_standby_is_left(postgres: Cluster) -> None:
    with closing(Store.open(postgres.new_database())) as store:
        assert refused(store, STANDBY) is not used_next(store)
        assert store.insert([decision("d")])[0].inserted
