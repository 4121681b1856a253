"""What goes through the log is read without whole rows, and only what is new."""

from datetime import timedelta

from data.log import activity
from data.log.store import Store
from data.schema import Feedback, Reject
from tests.support.clocks import NOON, Clock
from tests.support.records import decision, event


def report(number: int, decision_id: str, kind: str = "view") -> Feedback:
    return Feedback(feedback_id=f"f{number}", decision_id=decision_id, kind=kind)


def test_reports_come_with_the_node_and_the_time_of_their_decision(store: Store, clock: Clock) -> None:
    store.insert([decision("one", node_id="shop"), decision("two")])
    clock.advance(30)
    store.insert([report(1, "one"), report(2, "nobody's"), report(3, "two", "click")])
    heard, until = activity.heard_after(store, 0, 100)
    assert [(one.kind, one.node_id, (one.received_us - one.decided_us) / 1e6) for one in heard] == [
        ("view", "shop", 30.0),
        ("click", None, 30.0),
    ]
    assert until == activity.last_feedback_position(store)
    assert activity.heard_after(store, until, 100) == ([], until)


def test_reports_are_read_so_many_at_a_time(store: Store) -> None:
    store.insert([decision("one"), *(report(number, "one") for number in range(5))])
    first, until = activity.heard_after(store, 0, 3)
    rest, _ = activity.heard_after(store, until, 3)
    assert (len(first), len(rest)) == (3, 2)


def test_reports_of_another_loop_are_of_no_decision(store: Store) -> None:
    store.insert([decision("one"), report(1, "one").model_copy(update={"loop": "personalizer"})])
    assert activity.heard_after(store, 0, 100)[0] == []


def test_a_node_is_seen_by_its_newest_row_accepted_or_rejected(store: Store, clock: Clock) -> None:
    assert activity.last_seen(store, ["online_retail", "n"]) == {}
    store.insert([event("1"), event("2")])
    clock.advance(60)
    store.insert([Reject(node_id="n", reject_id="r", source="http", row=0, rule="x")])
    assert activity.last_seen(store, ["online_retail", "n", "other"]) == {
        "online_retail": NOON,
        "n": NOON + timedelta(seconds=60),
    }


def test_the_oldest_decision_and_the_size(store: Store) -> None:
    assert activity.oldest_decision(store) is None
    store.insert([decision("one"), decision("two", time=NOON + timedelta(days=1))])
    assert activity.oldest_decision(store) == NOON
    assert activity.size_bytes(store) > 10_000
