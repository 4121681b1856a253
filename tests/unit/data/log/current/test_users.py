"""What is kept of a user and how they are forgotten: the rows that are theirs, and no others."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from data.archive.erasure import erase_from_archive
from data.archive.parquet import KINDS, Archive, read_events, write_part
from data.errors import DataError
from data.ingest.clean import clean, finish_events, finish_rejects
from data.log.current.users import (
    Past,
    get_user,
    history,
    past,
    upsert_user,
)
from data.log.erasures import erase_from_store
from data.log.store import Store
from data.log.tables import ERASURES
from data.nodes.node import load_node
from data.schema import (
    Decision,
    Feedback,
    Reject,
)
from tests.support.clocks import NOON, Clock
from tests.support.records import FORGOTTEN, decision, event
from tests.support.rows import feedback_rows, raw_bytes, reject_rows

HOUR = timedelta(hours=1)
NODE = load_node("online_retail")


def report(of: str, kind: str = "view", item_id: str | None = None, feedback_id: str | None = None) -> Feedback:
    return Feedback(feedback_id=feedback_id or f"{of}-{kind}-{item_id}", decision_id=of, kind=kind, item_id=item_id)


def test_features_are_kept_and_replaced(store: Store, clock: Clock) -> None:
    assert get_user(store, FORGOTTEN) is None
    upsert_user(store, FORGOTTEN, {"age": 40, "likes": ["red"]})
    clock.now += HOUR
    kept = upsert_user(store, FORGOTTEN, {"age": 41})
    assert get_user(store, FORGOTTEN) == kept
    assert (kept.features, kept.updated_at) == ({"age": 41}, NOON + HOUR)


def test_history_is_newest_first_in_pages(store: Store, clock: Clock) -> None:
    for number in range(6):
        clock.now = NOON + number * HOUR
        store.insert([decision(f"d{number}", time=clock.now)] if number % 2 else [event(f"e{number}")])
        store.insert([decision(f"other{number}", "someone", time=clock.now)])
    store.insert([report("d3", "click"), report("d3", "view")])
    seen: list[str] = []
    before = None
    for _ in range(3):
        page, before = history(store, FORGOTTEN, 2, before)
        seen += [e.record.decision_id if isinstance(e.record, Decision) else e.record.event_id for e in page]
        for entry in page:
            if entry.record.__dict__.get("decision_id") == "d3":
                assert [f.kind for f in entry.feedback] == ["click", "view"]
    assert seen == ["d5", "e4", "d3", "e2", "d1", "e0"]
    assert before is None
    assert history(store, "nobody", 5) == ([], None)


def test_pages_do_not_lose_the_kind_that_a_page_has_none_of(store: Store) -> None:
    store.insert([event(f"e{n}") for n in range(3)])
    store.insert([decision(f"d{n}", time=NOON + HOUR) for n in range(3)])
    first, before = history(store, FORGOTTEN, 2)
    second, before = history(store, FORGOTTEN, 2, before)
    third, before = history(store, FORGOTTEN, 2, before)
    kinds = [type(entry.record).__name__ for entry in [*first, *second, *third]]
    assert kinds == ["Decision"] * 3 + ["Event"] * 3
    assert before is None


def test_the_past_is_what_was_seen_and_bought(store: Store) -> None:
    store.insert([decision("d1", slate="abcd"), decision("d2", slate="ef"), decision("d3", "someone", slate="z")])
    store.insert([decision("old", slate="o", time=NOON - 10 * HOUR), decision("shown", slate="s")])
    store.insert([report("d1", "view"), report("d1", "click", "b"), report("d1", "view", "not-shown")])
    store.insert([report("d2", "purchase", "f"), report("d2", "activate"), report("d3", "purchase")])
    store.insert([report("old", "purchase"), report("shown", "activate")])
    bought = [event("1", item_id="x"), event("2", item_id="y", outcome=3), event("3", item_id="back", outcome=-1)]
    store.insert([*bought, event("4", item_id="long", time=NOON - 10 * HOUR), event("5", "someone", "z")])
    assert past(store, FORGOTTEN, NOON - HOUR, NOON - HOUR) == Past(frozenset("abf"), frozenset("fxy"))
    assert past(store, FORGOTTEN, NOON - HOUR, NOON - 20 * HOUR) == Past(frozenset("abf"), frozenset({*"fxyo", "long"}))
    assert past(store, FORGOTTEN, NOON - 20 * HOUR, NOON + HOUR) == Past(frozenset("abfo"), frozenset())
    assert past(store, "nobody", NOON, NOON) == Past()


def rejects() -> list[Reject]:
    def of(number: int, **fields: Any) -> Reject:
        fields = {"rule": "positive quantity", "column": "quantity", "value": "0"} | fields
        return Reject(
            node_id=fields.pop("node", "online_retail"), reject_id=str(number), source="http", row=0, **fields
        )

    return [
        of(0, record={"CustomerID": FORGOTTEN, "Country": "France"}),
        of(1, record={"CustomerID": "someone", "Description": FORGOTTEN}),  # it does not name them as its user
        of(2, record={"CustomerID": None}, rule="malformed row", column=None, value=f'"x",{FORGOTTEN},7'),
        of(3, record={"CustomerID": None}, rule="malformed row", column=None, value=f"x,{FORGOTTEN}0,7"),
        of(4, node="unknown_node", record={"who": FORGOTTEN}),
    ]


def test_forgetting_takes_his_rows_and_no_others(store: Store) -> None:
    store.insert([decision("theirs"), decision("other", "someone"), decision("nobody", None)])
    store.insert([report("theirs"), report("theirs", "click"), report("other"), report("orphan")])
    store.insert([event("1"), event("2", "someone"), event("3", None)])
    store.insert(rejects())
    upsert_user(store, FORGOTTEN, {"a": 1})
    upsert_user(store, "someone", {"a": 1})
    counts = erase_from_store(store, FORGOTTEN)
    assert counts == {"feedback": 2, "decisions": 1, "events": 1, "users": 1, "rejects": 3}
    assert {d.decision_id for _, d in store.decisions()} == {"other", "nobody"}
    assert {f.decision_id for _, f in feedback_rows(store)} == {"other", "orphan"}
    assert {e.event_id for _, e in store.events("online_retail")} == {"2", "3"}
    assert {r.reject_id for _, r in reject_rows(store)} == {"1", "3"}
    assert get_user(store, FORGOTTEN) is None
    assert get_user(store, "someone") is not None
    [late] = store.insert([report("theirs", "purchase")])
    assert late.orphan


def test_forgetting_again_finds_nothing_and_notes_nothing(store: Store) -> None:
    store.insert([decision("theirs"), report("theirs")])
    erase_from_store(store, FORGOTTEN)
    assert set(erase_from_store(store, FORGOTTEN).values()) == {0}
    with store.reading() as connection:
        assert [tuple(row) for row in connection.execute(sa.select(ERASURES))] == [(1, NOON, 2)]


def test_a_number_is_the_same_user_however_it_was_read(store: Store) -> None:
    for number, text in enumerate(["12347", "12347.0", " 12347", "123470", "12347.5"]):
        fields: Any = {"rule": "r", "column": "quantity", "value": "0", "record": {"CustomerID": text}}
        store.insert([Reject(node_id="online_retail", reject_id=str(number), source="s", row=0, **fields)])
    assert erase_from_store(store, "12347")["rejects"] == 3
    assert [r.reject_id for _, r in reject_rows(store)] == ["3", "4"]


def test_positions_are_the_same_after_a_user_was_forgotten(store: Store) -> None:
    """A text that others have too is found in SQLite's file, so that is written anew."""
    store.insert([decision("1", "7"), decision("2", "77"), decision("3", "7"), decision("4", "77")])
    assert erase_from_store(store, "7")["decisions"] == 2
    assert [(seq, d.decision_id) for seq, d in store.decisions()] == [(2, "2"), (4, "4")]
    [next_one] = store.insert([decision("5", "77")])
    assert next_one.seq == 5


def row(customer: int, quantity: str = "6", number: int = 0) -> dict[str, object]:
    return {
        "InvoiceNo": f"{number}", "StockCode": "85123A", "Description": "HEART", "Quantity": quantity,
        "InvoiceDate": "2010-12-01T08:26:00", "UnitPrice": 2.55, "CustomerID": customer, "Country": "France",
    }  # fmt: skip


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An archive with rows of customers 17850 and 13047; one file has only the former's."""
    archive = Archive.at(str(tmp_path / "archive"))
    parts = {
        "p0-a": [row(17850), row(13047), row(17850, "six"), row(13047, "six")],
        "p1-a": [row(17850, number=2), row(17850, "two")],
        "p1-b": [row(13047, number=3)],
    }
    for name, rows in parts.items():
        cleaned = clean(pa.Table.from_pylist(rows), NODE, "file.csv")
        tables = {"events": finish_events(cleaned.events, NODE, None), "rejects": finish_rejects(cleaned.rejects, NODE)}
        for kind, table in tables.items():
            folder = tmp_path / "archive" / kind / "node_id=online_retail"
            folder.mkdir(parents=True, exist_ok=True)
            if table.num_rows:
                write_part(table, str(folder / f"{name}.parquet"), f"{kind.removesuffix('s')}_id", archive)
    return archive


def test_the_archive_is_rewritten_without_his_rows(archive: Archive, tmp_path: Path) -> None:
    leftover = tmp_path / "archive" / "_staging" / "online_retail" / "killed"
    leftover.mkdir(parents=True)
    (leftover / "00000000.events").write_bytes(b"17850")
    before = {
        kind: archive.dataset(kind, NODE).to_table().sort_by("row" if kind == "rejects" else "event_id")
        for kind in KINDS
    }
    untouched = tmp_path / "archive/events/node_id=online_retail/p1-b.parquet"
    stamp = untouched.stat().st_mtime_ns
    assert erase_from_archive(archive, "17850") == {"archive_events": 2, "archive_rejects": 2}
    assert b"17850" not in raw_bytes(tmp_path)
    assert untouched.stat().st_mtime_ns == stamp
    for kind in KINDS:
        kept = archive.dataset(kind, NODE).to_table()
        assert kept.schema == before[kind].schema
        assert kept.num_rows == {"events": 2, "rejects": 1}[kind]
    events = read_events(archive.root, NODE).to_table()
    assert set(events["user_id"].to_pylist()) == {"13047"}
    assert set(events["event_id"].to_pylist()) < set(before["events"]["event_id"].to_pylist())
    assert not (tmp_path / "archive/events/node_id=online_retail/p1-a.parquet").exists()
    assert erase_from_archive(archive, "17850") == {"archive_events": 0, "archive_rejects": 0}


def test_a_rewritten_file_is_written_like_an_ingested_one(archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "archive/events/node_id=online_retail/p0-a.parquet"
    before = pq.read_schema(path)
    erase_from_archive(archive, "17850")
    assert pq.read_schema(path) == before
    assert pq.read_metadata(path).num_rows == 1


def test_an_archive_that_is_being_written_is_left_alone(archive: Archive) -> None:
    with archive.lock("online_retail"), pytest.raises(DataError, match="being ingested"):
        erase_from_archive(archive, "17850")
    assert erase_from_archive(archive, "17850")["archive_events"] == 2


def test_an_archive_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert erase_from_archive(Archive.at(str(tmp_path / "none")), FORGOTTEN) == {
        "archive_events": 0,
        "archive_rejects": 0,
    }
