"""What the service does by itself about tests that run: what is worse goes off, once, by what is new in the log."""

from typing import Any

import pyarrow as pa
import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from serve.abtests import following
from serve.abtests.changes import find_test, set_shares, start
from serve.abtests.exposures import read_exposures
from serve.abtests.specification import ABTest
from serve.abtests.state import ABTestState
from serve.abtests.watch import Watch
from serve.config import ServiceConfig
from tests.support.clocks import NOON, Clock
from tests.support.records import decision

SPEC = RewardSpec(weights={"click": 1.0, "complaint": 0.0})
OLD_NEW: dict[str, Any] = {"old": {"policy": "p"}, "new": {"policy": "q"}}


def begin(store: Store, **fields: Any) -> ABTestState:
    fields = {"name": "t", "variants": OLD_NEW, "control": "old"} | fields
    return start(store, ABTest.model_validate(fields), by="me")


def watch(store: Store) -> Watch:
    return Watch(store, ServiceConfig(policies={"p": 1.0}, reward=SPEC))


def expose(
    store: Store, clock: Clock, users: dict[str, int], clicks: dict[str, float], kind: str = "click", name: str = "t"
) -> None:
    """Let each variant's users have four decisions, of which a share is clicked on, and let the windows close."""
    rows, reports = list[Any](), list[Any]()
    for variant, count in users.items():
        for number in range(4 * count):
            one = f"{clock.now.timestamp()}{variant}{number}"
            rows.append(decision(one, user_id=f"{variant}{number // 4}", abtest=name, variant=variant, time=clock.now))
            # Which of a user's are clicked on differs from user to user.
            if (number * 7919 % 1000) / 1000 < clicks[variant]:
                reports.append(Feedback(feedback_id=f"f{one}", decision_id=one, item_id="a", kind=kind))
    store.insert(rows)
    store.insert(reports)
    clock.advance(700)


def test_a_variant_that_is_worse_is_switched_off_with_the_reason(store: Store, clock: Clock) -> None:
    begin(store)
    looking = watch(store)
    looking.look()
    expose(store, clock, {"old": 200, "new": 200}, {"old": 0.5, "new": 0.2})
    looking.look()
    state = find_test(store, "t")
    assert state.switched_off == ("new",)
    assert state.shares == {"old": 1.0, "new": 0.0}
    last = state.history[-1]
    assert (last.by, last.action) == ("results", "switch_off")
    assert last.why is not None
    assert last.why.startswith("it earns -59.7% beside old (-71.7% to -45.5%, ")
    looking.look()
    assert find_test(store, "t").history[-1] == last


@pytest.mark.parametrize("clicks", [{"old": 0.3, "new": 0.3}, {"old": 0.2, "new": 0.5}])
def test_one_that_is_as_good_or_better_stays(store: Store, clock: Clock, clicks: dict[str, float]) -> None:
    begin(store)
    expose(store, clock, {"old": 200, "new": 200}, clicks)
    watch(store).look()
    assert find_test(store, "t").switched_off == ()


def test_nothing_is_decided_where_users_came_in_the_wrong_ratio(
    store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    begin(store)
    expose(store, clock, {"old": 320, "new": 120}, {"old": 0.5, "new": 0.2})
    watch(store).look()
    assert find_test(store, "t").switched_off == ()
    assert "users did not come as often as shares say: old 320 of 220, new 120 of 220" in caplog.text


def test_shares_that_changed_are_no_wrong_ratio(store: Store, clock: Clock) -> None:
    begin(store, variants={"old": {"policy": "p", "share": 0.8}, "new": {"policy": "q", "share": 0.2}})
    expose(store, clock, {"old": 400, "new": 100}, {"old": 0.5, "new": 0.5})
    set_shares(store, "t", {"old": 0.2, "new": 0.8}, by="me")
    rows = [
        decision(f"later{n}", user_id=f"later{n}", abtest="t", variant="old" if n < 100 else "new", time=clock.now)
        for n in range(500)
    ]
    store.insert(rows)
    clock.advance(700)
    watch(store).look()
    assert find_test(store, "t").switched_off == ("new",)  # only the first 500 were clicked on


def test_a_broken_guardrail_switches_off(store: Store, clock: Clock) -> None:
    begin(store, read={"guardrails": {"complaint": -1.0}})
    expose(store, clock, {"old": 200, "new": 200}, {"old": 0.1, "new": 0.4}, kind="complaint")
    watch(store).look()
    state = find_test(store, "t")
    assert state.switched_off == ("new",)
    assert "guardrail complaint is broken" in str(state.history[-1].why)


def test_a_test_may_ask_not_to_be_decided(store: Store, clock: Clock) -> None:
    begin(store, read={"switch_off": False})
    expose(store, clock, {"old": 200, "new": 200}, {"old": 0.5, "new": 0.2})
    watch(store).look()
    assert find_test(store, "t").switched_off == ()


def test_a_look_reads_what_is_new_and_what_is_closed(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store)
    read = list[int]()

    def count(*arguments: Any, **options: Any) -> pa.Table:
        table = read_exposures(*arguments, **options)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr(following, "read_exposures", count)
    looking = watch(store)
    expose(store, clock, {"old": 10, "new": 10}, {"old": 0.5, "new": 0.5})
    store.insert([decision("open", user_id="x", abtest="t", variant="old", time=clock.now)])
    looking.look()
    looking.look()
    clock.advance(700)
    looking.look()
    looking.look()
    assert read == [81, 1, 1, 0]


def test_who_is_not_preferred_in_interleaved_slates_is_switched_off(store: Store, clock: Clock) -> None:
    begin(store, kind="interleaving")
    filled: dict[str, Any] = {"abtest": "t", "policy": "p+q", "teams": ("p", "q"), "slate": "ab"}
    store.insert([decision(str(n), user_id=f"u{n // 2}", time=NOON, **filled) for n in range(400)])
    clicks = [(n, "b" if n % 5 == 0 else "a") for n in range(400) if n % 2 or n % 5 == 0]
    store.insert([Feedback(feedback_id=str(n), decision_id=str(n), item_id=item, kind="click") for n, item in clicks])
    clock.advance(700)
    watch(store).look()
    state = find_test(store, "t")
    assert state.switched_off == ("new",)
    assert "users prefer old" in str(state.history[-1].why)
