"""What has come lately, by the newest rows and the ends of the log. On both databases."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import sqlalchemy as sa

from data.log.recent.arrivals import (
    MOST_NODES,
    list_nodes,
    measure_log,
    newest_events,
    newest_feedback,
    newest_rejects,
    newest_slates,
    time_of_decision,
)
from data.log.store import Store
from data.log.tables import PARTS
from data.schema import SHADOW, Event, Feedback, Reject
from tests.support.clocks import NOON, Clock
from tests.support.databases import new_url as new_url
from tests.support.databases import url as url
from tests.support.records import decision


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    with closing(Store.open(url, clock)) as store:
        yield store


def reject(node: str, number: int) -> Reject:
    return Reject(node_id=node, reject_id=f"{node}{number}", source="http", row=number, rule="r", record={"a": 1})


def test_nodes_are_those_with_events_or_rejects(store: Store) -> None:
    assert list_nodes(store) == []
    store.insert([Event(node_id=node, event_id=f"{n}", record={}) for node in ("b", "a", "a b") for n in range(3)])
    store.insert([reject("only-rejects", 1), reject("a", 2)])
    assert list_nodes(store) == ["a", "a b", "b", "only-rejects"]
    store.insert([Event(node_id=f"n{number:03}", event_id="1", record={}) for number in range(MOST_NODES + 5)])
    assert len(list_nodes(store)) == MOST_NODES


def test_the_newest_come_first_and_no_more_than_are_asked_for(store: Store, clock: Clock) -> None:
    for minute in range(4):
        store.insert([Event(node_id="a", event_id=f"{minute}", record={}), reject("a", minute)])
        store.insert([Event(node_id="b", event_id=f"{minute}", record={})])
        store.insert([Feedback(feedback_id=f"{minute}", decision_id="d", kind="click")])
        clock.advance(60)
    minutes = [(time - NOON).total_seconds() / 60 for time in newest_events(store, "a", 3)]
    assert minutes == [3, 2, 1]
    assert newest_events(store, "c", 3) == []
    assert [(time - NOON).total_seconds() / 60 for time in newest_feedback(store, 2)] == [3, 2]
    assert [(one.row, one.record) for one in newest_rejects(store, "a", 2)] == [(3, {"a": 1}), (2, {"a": 1})]


def test_slates_say_where_they_were_shown_and_shadows_are_none(store: Store, clock: Clock) -> None:
    store.insert([decision("1", time=clock(), node_id="page"), decision("2", time=clock())])
    store.insert([decision("3", time=clock(), loop=SHADOW, node_id="page")])
    assert newest_slates(store, 10) == [(None, NOON), ("page", NOON)]


def test_the_time_of_a_position_is_that_of_the_first_decision_from_there(store: Store, clock: Clock) -> None:
    for number in range(3):
        store.insert([decision(f"{number}", time=clock())])
        clock.advance(10)
    assert time_of_decision(store, -100) == NOON
    assert time_of_decision(store, store.last_decision()) == NOON.replace(second=20)
    assert time_of_decision(store, store.last_decision() + 1) is None


def test_the_size_is_told_by_the_ends_and_by_what_was_archived(store: Store, clock: Clock) -> None:
    store.insert([decision(f"{number}", time=clock()) for number in range(5)])
    with store.writing() as connection:
        part = {"kind": "feedback", "day": "2026-01-01", "first": 1, "last": 40, "rows": 38, "bytes": 1_000}
        part |= {"time_first": NOON, "time_last": NOON, "root": "r", "path": "p"}
        connection.execute(sa.insert(PARTS).values(**part))
    size = measure_log(store)
    assert size.bytes > 4_096
    tables = {table.name: table for table in size.tables}
    assert list(tables) == ["decisions", "feedback", "events", "rejects", "versions"]
    assert (tables["decisions"].kept, tables["decisions"].oldest, tables["decisions"].archived_rows) == (5, NOON, 0)
    feedback = tables["feedback"]
    assert (feedback.first, feedback.last, feedback.kept, feedback.oldest) == (None, 40, 0, None)
    assert (feedback.archived_rows, feedback.archived_bytes, feedback.archived_through) == (38, 1_000, NOON)
