"""New rows go to PostgreSQL and are committed by one message; a known key costs a second transaction, and no row."""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from data.log.backend import Rows, Statements
from data.log.errors import StoreError, StoreUnconfirmed
from data.log.postgres import driver
from data.log.store import Store
from data.schema import Event, Feedback
from tests.support.packages import needs_package
from tests.support.postgres import Cluster
from tests.support.records import decision
from tests.support.rows import count_rows

pytestmark = [pytest.mark.heavy, needs_package("postgresql")]


@pytest.fixture
def store(postgres: Cluster) -> Iterator[Store]:
    with closing(Store.open(postgres.new_database())) as store:
        yield store


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many statements each commit has taken with it."""
    numbers, commit_with = list[int](), driver.Connection.commit_with

    def count(connection: driver.Connection, statements: Statements) -> list[Rows]:
        numbers.append(len(statements))
        return commit_with(connection, statements)

    monkeypatch.setattr(driver.Connection, "commit_with", count)
    return numbers


def click(name: str, about: str) -> Feedback:
    return Feedback(feedback_id=name, decision_id=about, kind="click")


def test_all_kinds_and_who_is_an_orphan_are_one_message(store: Store, sent: list[int]) -> None:
    stored = store.insert([click("f", "d"), decision("d"), click("g", "none"), Event(node_id="n", event_id="e")])
    assert sent == [4]  # decisions, feedback, events, and which decisions there are
    assert [(one.seq, one.inserted, one.orphan) for one in stored] == [
        (1, True, False),
        (1, True, False),
        (2, True, True),
        (1, True, False),
    ]
    assert store.feedback_of(["d", "none"]).keys() == {"d", "none"}
    assert store.insert([decision("e"), decision("f")])[1].seq == 3
    assert sent == [4, 1]


def test_a_known_key_is_found_and_nothing_of_the_first_try_stays(
    store: Store, sent: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    first = decision("d", "ann")
    store.insert([first])
    again = store.insert([decision("new", "ann"), decision("d", "bob")])
    assert [(one.record, one.inserted) for one in again] == [(decision("new", "ann"), True), (first, False)]
    assert sent == [1, 1]
    assert count_rows(store)["decisions"] == 2
    assert not store.insert([decision("d", "bob")])[0].inserted  # whoever sends again sends more again: not tried
    assert store.insert([decision("third", "ann")])[0].inserted
    assert sent == [1, 1]
    assert store.insert([decision("fourth", "ann")])[0].inserted
    assert sent == [1, 1, 1]
    assert not caplog.records


def test_two_of_one_key_are_not_tried(store: Store, sent: list[int]) -> None:
    assert [one.inserted for one in store.insert([decision("d", "ann"), decision("d", "bob")])] == [True, False]
    assert sent == []


def test_a_statement_that_fails_leaves_nothing_of_those_before_it(store: Store) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE feedback ADD CONSTRAINT small CHECK (value < 10)")
    with pytest.raises(StoreError, match="small"):
        store.insert([decision("d"), click("f", "d").model_copy(update={"value": 11.0})])
    assert set(count_rows(store).values()) == {0}
    assert store.insert([decision("d"), click("f", "d")])[0].inserted


def test_a_server_that_goes_has_not_confirmed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit was on its way: it is done or not."""
    store.insert([decision("before")])

    def leave(connection: driver.Connection, statements: Statements) -> list[Rows]:
        connection.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(driver.Connection, "commit_with", leave)
    with pytest.raises(StoreUnconfirmed, match="is lost"):
        store.insert([decision("d")])
    monkeypatch.undo()
    assert store.insert([decision("d")])[0].inserted


def test_a_commit_that_a_server_warns_about_is_none_that_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_with = driver.Connection.commit_with

    def warn(connection: driver.Connection, statements: Statements) -> list[Rows]:
        raising = "DO $$ BEGIN RAISE WARNING 'not replicated'; END $$"
        return commit_with(connection, [*statements, (raising, ())])

    monkeypatch.setattr(driver.Connection, "commit_with", warn)
    with pytest.raises(StoreUnconfirmed, match="not replicated"):
        store.insert([decision("d")])
