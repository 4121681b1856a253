"""The log, written alone or together: what is acknowledged is there, once, as it was sent."""

import multiprocessing
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from data.log.errors import StoreError, StoreUnavailable
from data.log.insertion.appender import Stored
from data.log.store import Store
from data.log.tables import LOGS
from data.log.writer.commit import commit_together
from data.schema import (
    AnyRecord,
    Decision,
    Event,
    Feedback,
    Reject,
)
from tests.support.clocks import Clock
from tests.support.rows import count_rows, feedback_rows, reject_rows

T0 = datetime(2026, 3, 1, 12, 0, 0, 123_457, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    return Clock(T0)


def decision(decision_id: str, **fields: object) -> Decision:
    values: dict[str, object] = {
        "decision_id": decision_id,
        "time": T0,
        "candidates": ("a", "b", "c"),
        "slate": ("b", "a"),
        "propensities": (0.5, 0.25),
        "scores": (1.5, -0.5),
        "policy": "random",
        "policy_version": "random-1",
    }
    return Decision.model_validate(values | fields)


def feedback(feedback_id: str, decision_id: str, **fields: object) -> Feedback:
    return Feedback.model_validate({"feedback_id": feedback_id, "decision_id": decision_id, "kind": "click"} | fields)


def event(node_id: str, event_id: str) -> Event:
    return Event(node_id=node_id, event_id=event_id)


def reject(reject_id: str, row: int = 0) -> Reject:
    return Reject(node_id="till", reject_id=reject_id, source="http", row=row, rule="price > 0")


def test_columns_are_the_fields_of_the_record_in_their_order() -> None:
    for log in LOGS:
        assert [column.name for column in log.table.columns] == ["seq", *log.record.model_fields]


def test_a_decision_reads_back_exactly(store: Store) -> None:
    sent = decision(
        "d-ü-漢-🦊",
        time=datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-7))),
        user_id=None,
        context={
            "π": 0.1 + 0.2,
            "tiny": 5e-324,
            "one": 1.0,
            "int": 2**80,
            "yes": True,
            "none": None,
            'q"\\': "\n\x00é",
        },
        propensities=(1 / 3, 1e-300),
        scores=(float("inf"), -0.0),
        candidates=(),
        slate=("ä" * 256, " "),
    )
    store.insert([sent, decision("other", user_id="u", mode="exploit")])
    read = store.decision("d-ü-漢-🦊")
    assert read == sent
    assert read is not None
    # == does not tell 1 from 1.0 and True, nor -0.0 from 0.0
    assert repr(read) == repr(sent)
    assert Decision.model_validate(read.model_dump()) == sent
    assert store.decision("other") == decision("other", user_id="u", mode="exploit")
    assert store.decision("missing") is None


def test_feedback_events_and_rejects_read_back_exactly(store: Store, clock: Clock) -> None:
    stamp = {"received_at": clock.now}
    reports = [
        feedback("f1", "d", item_id="ö", value=0.1 + 0.2, time=T0 - timedelta(microseconds=1)),
        feedback("f2", "d", value=7, kind="rating"),
    ]
    full_event = Event(
        node_id="till", event_id="e", user_id="u", item_id="i", time=T0, outcome=1e-17, record={"price": 0.1, "n": 3}
    )
    full_reject = Reject(
        node_id="till",
        reject_id="r",
        source="s3://x",
        row=2**40,
        rule="p > 0",
        column="p",
        value="-1",
        record={"p": -1},
    )
    store.insert([*reports, full_event, event("till", "bare"), full_reject, reject("bare")])
    assert feedback_rows(store) == [(n, f.model_copy(update=stamp)) for n, f in enumerate(reports, start=1)]
    events = [full_event, event("till", "bare")]
    assert store.events("till") == [(n, e.model_copy(update=stamp)) for n, e in enumerate(events, start=1)]
    rejects = [full_reject, reject("bare")]
    assert reject_rows(store) == [(n, r.model_copy(update=stamp)) for n, r in enumerate(rejects, start=1)]
    assert repr(feedback_rows(store)[1][1].value) == "7.0"


def test_what_another_log_received_keeps_its_time_where_it_is_asked_for(store: Store, clock: Clock) -> None:
    early = T0 - timedelta(days=3)
    sent = [feedback("1", "d", received_at=early), feedback("2", "d")]
    assert [stored.record.received_at for stored in store.insert(sent, received=True)] == [early, T0]  # type: ignore[union-attr]
    store.insert([feedback("3", "d", received_at=early)])
    assert [found.received_at for _, found in feedback_rows(store)] == [early, T0, T0]


def test_a_known_key_returns_what_was_stored_first(store: Store, clock: Clock) -> None:
    first = store.insert([decision("d"), feedback("f", "d"), event("till", "e"), reject("r")])
    clock.now += timedelta(hours=1)
    changed: list[AnyRecord] = [
        decision("d", policy="other"),
        feedback("f", "elsewhere", value=9.0),
        Event(node_id="till", event_id="e", outcome=9.0),
        reject("r", row=9),
    ]
    again = store.insert(changed)
    assert [stored.inserted for stored in first] == [True] * 4
    assert [stored.inserted for stored in again] == [False] * 4
    assert [(s.record, s.seq, s.orphan) for s in again] == [(s.record, s.seq, s.orphan) for s in first]
    assert count_rows(store) == {"decisions": 1, "feedback": 1, "events": 1, "rejects": 1, "versions": 0}


def test_a_retry_of_what_cannot_be_read_back_is_refused_by_name(store: Store) -> None:
    store.insert([decision("d1")])
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE decisions SET slate = '{'")
    with pytest.raises(StoreError, match="decisions has 'd1' already, in a row that cannot be read back"):
        store.insert([decision("d0"), decision("d1")])
    assert count_rows(store)["decisions"] == 1
    refused, stored = commit_together(store.insert, [[decision("d1")], [decision("d2")]])
    assert isinstance(refused, StoreError)
    assert isinstance(stored, list)
    assert [row.inserted for row in stored] == [True]


def test_duplicates_within_one_batch(store: Store) -> None:
    store.insert([decision("known")])
    batch = [decision("a"), decision("known", policy="x"), decision("a", policy="x"), decision("b"), decision("a")]
    stored = store.insert(batch)
    assert [(s.record, s.inserted, s.seq) for s in stored] == [
        (decision("a"), True, 2),
        (decision("known"), False, 1),
        (decision("a"), False, 2),
        (decision("b"), True, stored[3].seq),
        (decision("a"), False, 2),
    ]
    assert stored[3].seq > 2


def test_an_event_id_is_unique_within_its_node_only(store: Store) -> None:
    store.insert([event("n1", "e1"), event("n2", "e2")])
    stored = store.insert([event("n1", "e2"), event("n2", "e2"), event("n1", "e1"), event("n2", "e1")])
    assert [(s.inserted, s.seq) for s in stored[1:3]] == [(False, 2), (False, 1)]
    assert all(stored[place].inserted for place in (0, 3))
    assert 2 < stored[0].seq < stored[3].seq
    assert [(seq, e.event_id) for seq, e in store.events("n1")] == [(1, "e1"), (stored[0].seq, "e2")]
    assert [(seq, e.event_id) for seq, e in store.events("n2")] == [(2, "e2"), (stored[3].seq, "e1")]


def test_orphans_are_feedback_without_a_decision_in_the_log(store: Store) -> None:
    mixed: list[AnyRecord] = [feedback("f1", "here"), feedback("f2", "nowhere"), decision("here")]
    assert [s.orphan for s in store.insert(mixed)] == [False, True, False]
    store.insert([decision("nowhere")])
    assert [s.orphan for s in store.insert([feedback("f2", "nowhere"), feedback("f3", "gone")])] == [False, True]


def test_positions_follow_the_order_of_commits_and_so_does_received_at(store: Store, clock: Clock) -> None:
    for n in range(5):
        clock.now = T0 + timedelta(seconds=n)
        store.insert([feedback(f"f{n}-{k}", "d", time=T0 - timedelta(days=n)) for k in range(3)])
    rows = feedback_rows(store)
    assert [seq for seq, _ in rows] == list(range(1, 16))
    assert [f.feedback_id for _, f in rows] == [f"f{n}-{k}" for n in range(5) for k in range(3)]
    assert [f.received_at for _, f in rows] == [T0 + timedelta(seconds=n) for n in range(5) for _ in range(3)]
    store.insert([decision(f"d{n}") for n in range(5)])
    decisions = store.decisions()
    assert store.decisions(after=2, limit=2) == decisions[2:4]
    assert store.decisions(after=5) == []


def test_received_at_is_the_servers(store: Store) -> None:
    claimed = feedback("f", "d", received_at=T0 - timedelta(days=365))
    (stored,) = store.insert([claimed])
    assert isinstance(stored.record, Feedback)
    assert stored.record.received_at == T0
    assert feedback_rows(store)[0][1].received_at == T0


def test_reading_by_id(store: Store) -> None:
    sent = [decision(f"d{n}", time=T0 + timedelta(seconds=n)) for n in range(5)]
    reports = [feedback(f"f{n}", f"d{n % 2}") for n in range(4)]
    store.insert([*reversed(sent), *reports])
    assert store.decisions_by_id(["d3", "d1", "missing", "d1"]) == {"d3": sent[3], "d1": sent[1]}
    by_decision = store.feedback_of(["d0", "d1", "d2"])
    assert {key: [f.feedback_id for f in found] for key, found in by_decision.items()} == {
        "d0": ["f0", "f2"],
        "d1": ["f1", "f3"],
    }


@pytest.mark.slow
def test_more_records_than_a_statement_has_variables(store: Store) -> None:
    sent = [feedback(f"f{n}", f"d{n}") for n in range(25_000)]
    assert all(stored.inserted for stored in store.insert(sent))
    again = store.insert(sent)
    assert [stored.seq for stored in again] == list(range(1, 25_001))
    assert not any(stored.inserted for stored in again)
    assert len(store.feedback_of([f.decision_id for f in sent])) == 25_000


def test_a_bad_record_spoils_its_transaction_and_nothing_is_written(store: Store) -> None:
    with pytest.raises((OverflowError, StoreError)):
        store.insert([decision("d"), reject("r", row=2**70)])
    with pytest.raises(StoreError, match="surrogates"):
        store.insert([decision("d"), decision("e").model_copy(update={"context": {"x": "\ud800"}})])
    with pytest.raises(TypeError, match="expected decisions, feedback"):
        store.insert([decision("d"), "feedback"])  # type: ignore[list-item]
    assert set(count_rows(store).values()) == {0}


def test_a_log_is_still_there_after_it_is_opened_again(store: Store, url: str) -> None:
    store.insert([decision("d")])
    store.close()
    again = Store.open(url)
    assert again.insert([decision("e")])[0].seq == 2
    assert again.decisions() == [(1, decision("d")), (2, decision("e"))]
    again.close()


ROUNDS = 10


def _open_and_insert(urls: Sequence[str], start: "multiprocessing.synchronize.Barrier", name: str) -> None:
    for url in urls:
        start.wait(60)
        store = Store.open(url)
        store.insert([decision(name), decision("all")])
        store.close()


@pytest.mark.heavy
def test_several_processes_open_a_new_log_at_once(new_url: Callable[[str], str]) -> None:
    spawn = multiprocessing.get_context("spawn")
    start = spawn.Barrier(4)
    urls = [new_url(f"new/{number}") for number in range(ROUNDS)]
    processes = [spawn.Process(target=_open_and_insert, args=(urls, start, f"p{n}")) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    for url in urls:
        store = Store.open(url)
        assert {d.decision_id for _, d in store.decisions()} == {"p0", "p1", "p2", "p3", "all"}
        store.close()


class Counting:
    """A store that counts its transactions, and fails as the test says."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.failure: Exception | None = None
        self.batches: list[int] = []

    def insert(self, records: Sequence[AnyRecord]) -> list[Stored]:
        self.batches.append(len(records))
        if self.failure is not None:
            raise self.failure
        return self.store.insert(records)


def test_submissions_are_committed_together_and_answered_each(store: Store) -> None:
    counting = Counting(store)
    submissions: list[list[AnyRecord]] = [[decision(f"d{n}"), feedback(f"f{n}", f"d{n}")] for n in range(100)]
    answers = commit_together(counting.insert, [[], *submissions])
    assert answers[0] == []
    for n, stored in enumerate(answers[1:]):
        assert isinstance(stored, list)
        assert [s.record for s in stored] == [decision(f"d{n}"), feedback(f"f{n}", f"d{n}", received_at=T0)]
        assert not any(s.orphan for s in stored)
    assert counting.batches == [200]


def test_a_full_disk_is_told_to_all_and_not_tried_again_one_by_one(store: Store) -> None:
    counting = Counting(store)
    counting.failure = StoreUnavailable("database or disk is full")
    answers = commit_together(counting.insert, [[decision(f"d{n}")] for n in range(10)])
    assert answers == [counting.failure] * 10
    assert counting.batches == [10]


def test_one_bad_submission_fails_alone(store: Store) -> None:
    counting = Counting(store)
    good: list[list[AnyRecord]] = [[decision(f"d{n}")] for n in range(6)]
    bad: list[AnyRecord] = [decision("half"), reject("r", row=2**70)]
    answers = commit_together(counting.insert, [*good[:3], bad, *good[3:]])
    assert isinstance(answers.pop(3), OverflowError | StoreError)
    assert all(isinstance(answer, list) and answer[0].inserted for answer in answers)
    assert [d.decision_id for _, d in store.decisions()] == [f"d{n}" for n in range(6)]
    assert counting.batches == [8, 1, 1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("kind", [sa.exc.TimeoutError, sa.exc.InvalidRequestError])
def test_what_the_database_says_is_one_line_without_links(store: Store, kind: type[sa.exc.SQLAlchemyError]) -> None:
    error = kind("there was\n\tno connection", code="3o7r")
    assert "https://sqlalche.me" in str(error)
    with pytest.raises(StoreError, match=r"database [^\n]*: there was no connection$"), store.reading():
        raise error
