"""A test is started, changed and stopped by rows of the log, on both databases, and each says who, when and why."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from data.log.store import Store
from serve.abtests.changes import find_test, list_running, list_tests, pin, set_shares, start, stop, switch_off
from serve.abtests.errors import ABTestRefused, UnknownABTest
from serve.abtests.running import RunningTests
from serve.abtests.specification import ABTest
from serve.abtests.state import Pinned, current_shares
from tests.support.clocks import NOON, Clock
from tests.support.records import version

TWO: dict[str, Any] = {"old": {"policy": "p"}, "new": {"policy": "q"}}


def ab(name: str = "t", **fields: Any) -> ABTest:
    return ABTest.model_validate({"name": name, "variants": TWO, "control": "old"} | fields)


def test_the_history_says_who_what_when_and_why(store: Store, clock: Clock) -> None:
    three = TWO | {"third": {"policy": "r"}}
    start(store, ab(variants=three), by="ann", why="to see")
    clock.advance(60)
    set_shares(store, "t", {"old": 0.6, "new": 0.2, "third": 0.2}, by="bob")
    clock.advance(60)
    state = switch_off(store, "t", "new", by="watch", why="it is worse")
    assert switch_off(store, "t", "new", by="watch", why="again") == state
    assert state.shares == pytest.approx({"old": 0.8, "new": 0.0, "third": 0.2})
    assert current_shares(state) == pytest.approx({"old": 0.8, "third": 0.2})
    clock.advance(60)
    done = stop(store, "t", by="ann")
    assert stop(store, "t", by="bob") == done == find_test(store, "t")
    told = [(change.action, change.by, change.why, change.variant) for change in done.history]
    assert told == [
        ("start", "ann", "to see", None),
        ("shares", "bob", None, None),
        ("switch_off", "watch", "it is worse", "new"),
        ("stop", "ann", None, None),
    ]
    assert [change.time - NOON for change in done.history] == [timedelta(minutes=n) for n in range(4)]
    assert [time - NOON for time, _ in done.phases] == [timedelta(minutes=n) for n in range(3)]
    assert [sum(shares.values()) for _, shares in done.phases] == pytest.approx([1.0] * 3)
    assert (done.started_by, done.ended_at) == ("ann", clock.now)
    with pytest.raises(ABTestRefused, match="is over"):
        set_shares(store, "t", {}, by="x")
    with pytest.raises(ABTestRefused, match="is over"):
        switch_off(store, "t", "third", by="x")


def test_replicas_follow_also_what_begins_and_ends_by_itself(store: Store, clock: Clock) -> None:
    replica = RunningTests(store)
    replica.refresh()
    assert replica.routes == {}
    begins, ends = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)
    start(store, ab(starts=begins, ends=ends), by="me")
    seen = []
    for _ in range(4):
        replica.refresh()
        seen.append(len(replica.routes))
        clock.advance(30)
    clock.advance(0)
    replica.refresh()
    assert (seen, replica.routes) == ([0, 0, 1, 1], {})
    assert list_running(store) == []


def test_the_users_of_one_test_are_not_those_of_another(store: Store, clock: Clock) -> None:
    start(store, ab("one"), by="me")
    with pytest.raises(ABTestRefused, match="'one' has the users of objective 'default': stop it first"):
        start(store, ab("two"), by="me")
    start(store, ab("shadow", kind="shadow"), by="me")
    start(store, ab("other", objective="likes"), by="me")
    stop(store, "one", by="me")
    clock.advance(1)
    start(store, ab("two"), by="me")
    with pytest.raises(ABTestRefused, match="there was a test 'one' already"):
        start(store, ab("one"), by="me")
    assert list(list_tests(store)) == ["one", "shadow", "other", "two"]


def test_what_cannot_be_is_refused(store: Store, clock: Clock) -> None:
    with pytest.raises(UnknownABTest, match="there is no A/B test 'x'; there are none"):
        stop(store, "x", by="me")
    with pytest.raises(ABTestRefused, match="would have ended"):
        start(store, ab(ends=NOON), by="me")
    store.insert([version(begins={"policies": {"p": "0a", "r": "0b"}})])
    with pytest.raises(ABTestRefused, match=r"policy 'q' of variant new is not served; served are p, r"):
        start(store, ab(), by="me")
    with pytest.raises(ABTestRefused, match="objective 'likes' is not served; served are default"):
        start(store, ab(objective="likes"), by="me")
    start(store, ab(variants={"old": {"policy": "p"}, "new": {"policy": "registry:challenger"}}), by="me")
    with pytest.raises(ABTestRefused, match="expected shares of new, old, got of new"):
        set_shares(store, "t", {"new": 1.0}, by="me")
    for variant in ("old", "third"):
        with pytest.raises(ABTestRefused, match=f"switched off can be new, not '{variant}'"):
            switch_off(store, "t", variant, by="me")


def test_what_was_pinned_stays(store: Store, clock: Clock) -> None:
    start(store, ab(variants={"old": {"policy": "p"}, "new": {"policy": "registry:challenger"}}), by="me")
    for digest in ("0a0a0a0a", "0b0b0b0b"):
        state = pin(store, "t", {"new": Pinned(version=3, digest=digest)}, by="learner")
    assert state.pinned == {"new": Pinned(version=3, digest="0a0a0a0a")}
    assert state.test.policies == {"old": "p", "new": "t.new"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"control": "x"}, "control must be one of the variants old, new, got 'x'"),
        ({"variants": {"old": {"policy": "p"}}}, "at least 2"),
        ({"variants": TWO | {"new": {"policy": "q", "share": 0.5}}}, "share of every variant, or of none"),
        (
            {"variants": {"old": {"policy": "p", "share": 0.8}, "new": {"policy": "q", "share": 0.5}}},
            "sum to more than 0 and at most 1, got 1.3",
        ),
        ({"variants": {"old": {"policy": "p"}, "new": {"policy": "p", "mode": "exploit"}}}, "say training = shared"),
        ({"variants": {"old": {"policy": "p"}, "new": {"policy": "a+b"}}}, "pattern"),
        ({"kind": "interleaving", "variants": TWO | {"third": {"policy": "r"}}}, "two variants with two policies"),
        ({"kind": "interleaving", "variants": TWO | {"new": {"policy": "q", "mode": "exploit"}}}, "have one mode"),
        ({"kind": "apprentice"}, "an apprentice is a version of the registry"),
        ({"starts": NOON, "ends": NOON}, "must end after it starts"),
        ({"loop": "personalizer"}, "'v1'"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_what_is_no_test_is_refused_and_said(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ab(**fields)
