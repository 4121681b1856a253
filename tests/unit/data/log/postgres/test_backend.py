"""What PostgreSQL does otherwise than SQLite, and must come to the same: texts, plans, what is deleted."""

import re
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fastapi.testclient import TestClient

import data.log.migrations
from data.log import following
from data.log.current.settings_table import last_change
from data.log.erasures import erase_from_store
from data.log.errors import StoreError
from data.log.loops import LoopEnds
from data.log.migrations.revisions import differences
from data.log.store import Store
from data.schema import LOOP_V1, Event, Feedback, Reject
from serve.api.application import create_api
from tests.support.packages import needs_package
from tests.support.postgres import Cluster
from tests.support.records import decision
from tests.support.rows import reject_rows
from tests.support.shops import shop_service

FOLDER = str(Path(data.log.migrations.__file__).parent)

pytestmark = [pytest.mark.heavy, needs_package("postgresql")]


def click(number: int) -> Feedback:
    return Feedback(feedback_id=f"f{number}", decision_id=f"d{number}", kind="click")


@pytest.fixture
def store(postgres: Cluster) -> Iterator[Store]:
    with closing(Store.open(postgres.new_database())) as store:
        yield store


def test_the_revisions_come_to_what_is_declared_and_what_a_new_log_has(postgres: Cluster) -> None:
    by_revisions, new = postgres.new_database(), postgres.new_database()
    Store.open(new).close()
    engine = sa.create_engine(by_revisions.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", FOLDER)
        command.upgrade(config, "head")
        connection.commit()
        assert differences(connection) == []
    engine.dispose()

    def dumped(url: str) -> list[str]:
        lines = postgres.run("pg_dump", "--schema-only", url).stdout.splitlines()
        return sorted(line.rstrip(",") for line in lines if not line.startswith("\\"))  # with a number of its own

    assert dumped(by_revisions) == dumped(new)


def test_a_value_may_have_any_character_and_an_id_no_nul(store: Store) -> None:
    def reject(value: str) -> Reject:
        return Reject(node_id="n", reject_id=value.encode().hex(), source="http", row=0, rule="is", value=value)

    values = ["\0", "a\0b", "ä\u2028", "\\x00"]
    store.insert([reject(value) for value in values])
    assert [found.value for _, found in reject_rows(store)] == values
    with pytest.raises(StoreError, match=r"invalid byte sequence.*0x00"):
        store.insert([Event(node_id="n", event_id="a\0b")])
    assert store.insert([Event(node_id="n", event_id="ab")])[0].inserted


@pytest.mark.parametrize("path", ["decisions/a%00b", "users/a%00b", "items/a%00b", "users/%00"])
def test_an_id_with_nul_is_asked_for_alike_on_both(store: Store, tmp_path: Path, path: str) -> None:
    with closing(Store.open(f"sqlite:///{tmp_path}/store.db")) as other:
        for log in (store, other):
            client = TestClient(create_api(shop_service(log)), raise_server_exceptions=False)
            for ask in (client.get, client.delete)[: 1 if path.startswith("decisions") else 2]:
                answer = ask(f"/v1/{path}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
                assert "no id has the character NUL" in answer.text


def test_rejects_that_name_a_user_are_found_in_any_value(store: Store) -> None:
    rows = [(None, 'x,"\0",someone,7'), (None, "x,nobody,7"), ("Quantity", "someone")]
    store.insert(
        [
            Reject(node_id="m", reject_id=str(n), source="s", row=n, rule="r", column=column, value=value)
            for n, (column, value) in enumerate(rows)
        ]
    )
    assert erase_from_store(store, "someone")["rejects"] == 1
    assert [found.reject_id for _, found in reject_rows(store)] == ["1", "2"]


def test_received_at_is_by_the_databases_clock(store: Store) -> None:
    for number in range(20):
        store.insert([click(number)])
    with store.reading() as connection:
        now = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        received = list(connection.exec_driver_sql("SELECT received_at FROM feedback ORDER BY seq").scalars())
    assert all(one < other for one, other in pairwise(received))
    assert 0 <= now.timestamp() - received[-1] / 1e6 < 5


def test_the_server_notices_that_a_client_is_gone(store: Store) -> None:
    with store.reading() as connection:
        names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "user_timeout")
        found = [connection.exec_driver_sql(f"SHOW tcp_{name}").scalar() for name in names]
        assert found == ["5", "2", "3", "10000"]


@pytest.fixture(scope="module")
def grown(postgres: Cluster) -> Iterator[Store]:
    """A log of 50,000 decisions with feedback, of two loops."""
    with closing(Store.open(postgres.new_database())) as store:
        with store.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO decisions (decision_id, time, loop, user_id, context, candidates, slate, propensities,"
                " scores, policy, policy_version, mode) SELECT 'd' || n, n, CASE WHEN mod(n, 10) = 0 THEN 'other' ELSE"
                " 'v1' END, 'u' || n, '{}', '[]', '[]', '[]', '[]', 'p', '0', 'explore'"
                " FROM generate_series(1, 50000) n"
            )
            connection.exec_driver_sql(
                "INSERT INTO feedback (feedback_id, decision_id, loop, kind, value, received_at) SELECT 'f' || n,"
                " 'd' || n, CASE WHEN mod(n, 10) = 0 THEN 'other' ELSE 'v1' END, 'click', 1, n"
                " FROM generate_series(1, 50000) n"
            )
            connection.exec_driver_sql("ANALYZE")
        yield store


def plan_of(store: Store, query: "sa.Select[tuple[int]]") -> str:
    with store.reading() as connection:
        text = query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        return "\n".join(connection.exec_driver_sql(f"EXPLAIN {text}".replace("%", "%%")).scalars())


@pytest.mark.parametrize("after", [0, 25_000, 49_000])
def test_no_read_of_what_is_new_looks_through_the_whole_log(
    grown: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    asked = list["sa.Select[tuple[int]]"]()

    def rows(_: sa.Connection, query: "sa.Select[tuple[int]]") -> list[list[int]]:
        asked.append(query)
        return []

    monkeypatch.setattr(following, "read_stored", rows)
    following.new_decisions(grown, LOOP_V1, after, 1_000, until=None, heard_until=50_000, with_slate=True)
    following.new_feedback(grown, LOOP_V1, after, 1_000, until=None, with_content=True)
    assert len(asked) == 2
    for query in asked:
        assert not re.search(r"Seq Scan|Hash|Sort", plan := plan_of(grown, query)), plan


def test_what_is_forgotten_is_in_no_page_that_a_statement_reads(postgres: Cluster) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    with closing(Store.open(url)) as store:
        store.insert([decision(f"d{n}", f"u{n % 2}") for n in range(200)])
        store.insert([click(n) for n in range(200)])
        assert erase_from_store(store, "u1")["decisions"] == 100
        assert erase_from_store(store, "u1") == dict.fromkeys(
            ("feedback", "decisions", "events", "users", "rejects"), 0
        )
        assert store.insert([decision("d200", "u0")])[0].seq == 201
    postgres.execute("CREATE EXTENSION pageinspect", name)
    items = postgres.execute("SELECT count(t_data) FROM heap_page_items(get_raw_page('decisions', 0))", name)
    assert items[0][0] in range(1, 100)
    left = "SELECT count(*) FROM bt_page_items('ix_decisions_user_id', 1) WHERE NOT coalesce(dead, false)"
    assert postgres.execute(left, name)[0][0] in range(1, 102)
    with psycopg.connect(url) as connection:
        dead = connection.execute("SELECT sum(n_dead_tup) FROM pg_stat_user_tables").fetchone()
        assert dead is not None


def test_a_transaction_that_still_sees_the_rows_does_not_keep_the_request(store: Store) -> None:
    store.insert([decision("d1", "u")])
    with store.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM decisions").scalar()
        assert erase_from_store(store, "u")["decisions"] == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM decisions").scalar() == 1
    assert store.decision("d1") is None


def scans(postgres: Cluster, name: str) -> list[tuple[object, ...]]:
    """Return how often tables were read as a whole by those who have closed their connections."""
    tables = "'decisions', 'feedback', 'versions', 'settings'"
    return postgres.execute(
        f"SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN ({tables}) ORDER BY 1", name
    )


def test_a_log_is_not_read_as_a_whole_by_plans_from_when_it_was_small(postgres: Cluster) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    Store.open(url).close()
    before = scans(postgres, name)
    with closing(Store.open(url)) as store:
        for n in range(20):  # a plan is kept from the tenth time on
            if n == 5:
                postgres.execute("ANALYZE", name)  # as the server does a minute after the first rows
            seq, last = (one.seq for one in store.insert([decision(f"d{n}"), click(n)]))
            assert not any(one.inserted for one in store.insert([decision(f"d{n}"), click(n)]))
            LoopEnds(store).look([LOOP_V1])
            following.new_decisions(store, LOOP_V1, n, 10, until=None, heard_until=n, with_slate=True)
            following.new_feedback(store, LOOP_V1, n, 10, until=None, with_content=True)
            assert len(following.whole_decisions(store, [seq])[0]) == 1
            assert len(following.whole_feedback(store, LOOP_V1, {f"d{n}": seq}, last)[0]) == 1
            assert len(store.feedback_of([f"d{n}"])) == 1
            assert last_change(store) == 0
    assert scans(postgres, name) == before


def test_a_loop_without_rows_is_not_looked_for_in_the_rows_of_others(postgres: Cluster) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    read = "SELECT sum(idx_tup_read)::int FROM pg_stat_user_indexes WHERE relname IN ('decisions', 'feedback')"
    with closing(Store.open(url)) as store:
        for n in range(4):
            store.insert([decision(f"d{n}/{of}") for of in range(500)])
        postgres.execute("ANALYZE", name)
        ends = LoopEnds(store)
        ends.look([LOOP_V1, "other"])
    [(before,)] = postgres.execute(read, name)
    with closing(Store.open(url)) as store:
        ends._store = store
        for n in range(20):
            store.insert([decision(f"new {n}")])
            assert ends.look([LOOP_V1, "other"])["other"] == (0, 0)
    [(after,)] = postgres.execute(read, name)
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after - before < 20 * 10  # 2,000 of the other loop each time
