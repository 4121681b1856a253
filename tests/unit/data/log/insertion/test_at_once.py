"""New rows go to PostgreSQL and are committed by one message; a known key costs a second transaction, and no row."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import psycopg
import pytest

from data.log.archived import keys
from data.log.errors import StoreError, StoreUnconfirmed
from data.log.insertion import appender, insert
from data.log.postgres import driver
from data.log.store import Store
from data.log.tables import ARCHIVED_KEYS, DECISIONS, LOGS
from data.schema import AnyRecord, Event, Feedback, Reject
from tests.support.packages import needs_package
from tests.support.postgres import Cluster
from tests.support.records import decision, version
from tests.support.rows import count_rows, reject_rows
from tests.support.services import wait_for

pytestmark = [pytest.mark.heavy, needs_package("postgresql")]


def click(name: str, about: str) -> Feedback:
    return Feedback(feedback_id=name, decision_id=about, kind="click")


@pytest.fixture
def store(postgres: Cluster) -> Iterator[Store]:
    with closing(Store.open(postgres.new_database())) as store:
        yield store


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tables each message had rows for."""
    numbers, execute = list[int](), driver.Connection.execute_and_commit

    def count(connection: driver.Connection, statement: str, values: Sequence[Any]) -> list[Any]:
        numbers.append(sum(value is not None for value in values[:-2]))
        return execute(connection, statement, values)

    monkeypatch.setattr(driver.Connection, "execute_and_commit", count)
    return numbers


def test_all_kinds_and_who_is_an_orphan_are_one_message(store: Store, sent: list[int]) -> None:
    stored = store.insert([click("f", "d"), decision("d"), click("g", "none"), Event(node_id="n", event_id="e")])
    assert sent == [3]  # decisions, feedback, events
    assert [(one.seq, one.inserted, one.orphan) for one in stored] == [
        (1, True, False),
        (1, True, False),
        (2, True, True),
        (1, True, False),
    ]
    assert store.feedback_of(["d", "none"]).keys() == {"d", "none"}
    assert store.insert([decision("e"), decision("f")])[1].seq == 3
    assert sent == [3, 1]


HARD: list[AnyRecord] = [
    decision("d", "é\u2028{}'", deferred=True, propensities=(0.1 + 0.2, 1.0), scores=(-0.0, 1e300)),
    decision('a"b\\u0041', "NULL", policy="{}"),
    decision("e", None, context={"a": "\\", "b": None, 'c"': '"'}),
    Feedback(feedback_id="f", decision_id="d", kind="click", value=5e-324),
    Event(node_id="n", event_id="e", outcome=1e308, record={"row": "NULL"}),
    Event(node_id="n", event_id="NULL", outcome=-0.0),
    Reject(node_id="n", reject_id="r", source="http", row=2**63 - 1, rule="is", value="\\x41é"),
    version(),
]


def test_any_value_is_stored_as_a_transaction_stores_it(
    postgres: Cluster, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list[list[Any]]()
    for plain in (False, True):
        monkeypatch.setenv("RAYCOMMEND_PLAIN", str(int(plain)))
        with closing(Store.open(postgres.new_database())) as store:
            assert all(one.inserted for one in store.insert(HARD))
            rows = list[Any]()
            with store.reading() as connection:
                for log in LOGS:
                    kept = log.select(without={"received_at"})
                    rows += [repr(row) for row in connection.execute(kept.order_by(log.table.c.seq))]
            held.append(rows)
    assert held[0] == held[1]
    assert len(held[0]) == len(HARD)
    assert sent == [5]


def test_what_json_cannot_hold_goes_another_way(store: Store, sent: list[int]) -> None:
    reject = Reject(node_id="n", reject_id="r", source="http", row=1, rule="is", value="\0é")
    assert store.insert([reject])[0].inserted
    [(_, found)] = reject_rows(store)
    assert found.value == "\0é"
    with pytest.raises(StoreError, match="out of range"):
        store.insert([reject.model_copy(update={"reject_id": "s", "row": 2**70, "value": "NULL"})])
    assert count_rows(store)["rejects"] == 1
    assert sent == [1]


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_what_is_archived_while_it_waits_for_the_lock_is_seen(
    postgres: Cluster, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement sees the log as it was when it began: that one must begin with the lock held."""
    url, slow = postgres.new_database(), list[int]()
    name = url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")

    def insert_rows(*arguments: Any) -> Any:
        slow.append(1)
        return insert.insert_rows(*arguments)

    monkeypatch.setattr(appender, "insert_rows", insert_rows)
    with closing(Store.open(url)) as store, closing(Store.open(url)) as archiver:
        assert store.insert([decision("first")])[0].inserted
        assert not slow
        thread = threading.Thread(target=store.insert, args=([decision("d")],))
        with archiver.writing() as connection:
            thread.start()
            waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            wait_for(lambda: bool(postgres.execute(waits)), 30)
            number = keys.number(DECISIONS, ("d",))
            connection.execute(ARCHIVED_KEYS.insert().values(number=number, seq=7))
        thread.join()
        assert slow == [1]
        assert store.last_decision() == 2


def test_who_may_make_no_function_writes_in_transactions_until_there_is_one(
    postgres: Cluster, sent: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    with closing(Store.open(url)) as store:
        postgres.execute("CREATE ROLE lowly LOGIN")
        postgres.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO lowly", name)
        postgres.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO lowly", name)
        with closing(Store.open(url.replace("raycommend@", "lowly@"))) as other:
            assert [other.insert([decision(name)])[0].inserted for name in ("d", "e")] == [True, True]
        assert sent == []
        assert ["permission denied for schema" in record.message for record in caplog.records] == [True]
        store.insert([decision("f")])
        with closing(Store.open(url.replace("raycommend@", "lowly@"))) as other:
            assert other.insert([decision("g")])[0].seq == 4
        assert sent == [1, 1]


def test_a_function_that_is_gone_is_done_without(
    postgres: Cluster, store: Store, sent: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    store.insert([decision("d")])
    name = store.name.split()[0]
    [(function,)] = postgres.execute("SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ '^raycommend'", name)
    postgres.execute(f"DROP FUNCTION {function}", name)
    assert [store.insert([decision(name)])[0].seq for name in ("e", "f")] == [2, 3]
    assert sent == [1, 1]
    assert ["two messages more" in record.message for record in caplog.records] == [True]


def test_two_who_begin_at_once_make_one_function(postgres: Cluster, sent: list[int]) -> None:
    url = postgres.new_database()
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(Store.open(url))) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            done = pool.map(lambda number: stores[number].insert([decision(str(number))])[0].seq, range(8))
        assert sorted(done) == list(range(1, 9))
    assert sent == [1] * 8


def test_each_of_many_gets_its_own_position(store: Store, sent: list[int]) -> None:
    names = [f"{number * 7919 % 200:03}" for number in range(200)]
    stored = store.insert([click(name, "d") for name in names])
    assert [one.seq for one in stored] == list(range(1, 201))
    with store.reading() as connection:
        assert connection.exec_driver_sql("SELECT feedback_id FROM feedback ORDER BY seq").scalars().all() == names
    assert sent == [1]


LONG = decision("d").model_copy(update={"context": {"long": "u" * 70_000}})


@pytest.mark.parametrize("records", [[click(str(number), "d") for number in range(201)], [LONG]])
def test_much_is_not_tried(store: Store, sent: list[int], records: list[AnyRecord]) -> None:
    assert all(one.inserted for one in store.insert(records))
    assert sent == []


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

    def leave(connection: driver.Connection, statement: str, values: Sequence[Any]) -> list[Any]:
        connection.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(driver.Connection, "execute_and_commit", leave)
    with pytest.raises(StoreUnconfirmed, match="is lost"):
        store.insert([decision("d")])
    monkeypatch.undo()
    assert store.insert([decision("d")])[0].inserted


def test_a_commit_that_a_server_warns_about_is_none_that_counts(store: Store) -> None:
    store.insert([decision("first")])
    with store.writing() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE WARNING 'not replicated'; RETURN new; END $$"
        )
        connection.exec_driver_sql("CREATE TRIGGER warns BEFORE INSERT ON decisions EXECUTE FUNCTION warn()")
    with pytest.raises(StoreUnconfirmed, match="not replicated"):
        store.insert([decision("d")])
