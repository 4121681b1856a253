"""What a test has shown and earned, as columns: archived and open days, slates of two teams, shadows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data.attribution.join import attribute
from data.formats.dsjson.lines import from_line, to_line
from data.log import bulk
from data.log.current.users import history
from data.log.erasures import erase_from_store
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import SHADOW, Feedback, to_shadow_id
from serve.abtests import exposures
from serve.abtests.changes import start
from serve.abtests.exposures import EXPOSURES, read_exposures, read_past, read_shadows
from serve.abtests.results import match_over_time
from serve.abtests.specification import ABTest
from serve.abtests.state import ABTestState
from tests.support.archives import archive
from tests.support.clocks import NOON, Clock
from tests.support.records import decision

SPEC = RewardSpec(weights={"click": 1.0, "purchase": 5.0}, aggregation="sum")


def begin(store: Store, kind: str = "split") -> ABTestState:
    variants: dict[str, Any] = {"old": {"policy": "p"}, "new": {"policy": "q"}}
    return start(store, ABTest(name="t", kind=kind, variants=variants, control="old"), by="me")


def report(number: int, decision_id: str, item_id: str, kind: str = "click", value: float = 1.0) -> Feedback:
    return Feedback(feedback_id=f"f{number}", decision_id=decision_id, item_id=item_id, kind=kind, value=value)


@pytest.mark.parametrize("archived", [False, True])
def test_an_exposure_has_what_it_earned_in_its_window(
    store: Store, clock: Clock, tmp_path: Path, archived: bool
) -> None:
    state = begin(store)
    exposed: dict[str, Any] = {"abtest": "t", "time": NOON}
    store.insert(
        [
            decision("1", user_id="u", variant="old", policy="p", context={"country": "de"}, **exposed),
            decision("2", user_id=None, variant="new", policy="q", **exposed),
            decision("3", user_id="u", policy="p"),
            decision("4", user_id="v", abtest="other", variant="new"),
        ]
    )
    store.insert([report(1, "1", "a"), report(2, "1", "b", "purchase", 2.0), report(3, "1", "nothing", "complaint")])
    clock.advance(700)
    store.insert([report(4, "2", "a")])  # late
    if archived:
        clock.now = NOON + timedelta(days=3)
        assert archive(store, tmp_path / "archive").rows["decisions"] == 4
    table = read_exposures(store, state, SPEC, kinds=["complaint", "click"], segments=["country", "x"])
    assert table.select(EXPOSURES.names).schema == EXPOSURES
    first, second = table.to_pylist()
    assert (first["unit"], first["user_id"], first["variant"], first["policy"]) == ("u", "u", "old", "p")
    assert (first["reward"], first["slots"], first["observed"], first["closed"]) == (11.0, 2, True, True)
    assert (first["kind:complaint"], first["kind:click"]) == (1.0, 1.0)
    assert (first["context:country"], first["context:x"]) == ("de", None)
    assert (second["unit"], second["user_id"], second["variant"]) == ("2", None, "new")
    assert (second["reward"], second["observed"], second["kind:click"]) == (0.0, False, 0.0)


def test_an_open_window_is_said_to_be_open(store: Store, clock: Clock) -> None:
    state = begin(store)
    store.insert([decision("1", abtest="t", variant="old")])
    for seconds, closed in ((600, [False]), (9, [False]), (2, [True])):
        clock.advance(seconds)
        assert read_exposures(store, state, SPEC)["closed"].to_pylist() == closed
    assert read_exposures(store, state, SPEC, until=NOON).num_rows == 0


def test_an_interleaved_slate_is_an_exposure_of_both_each_with_its_own_slots(store: Store, clock: Clock) -> None:
    state = begin(store, "interleaving")
    filled: dict[str, Any] = {"abtest": "t", "policy": "p+q", "teams": ("q", "p", "q")}
    store.insert([decision("1", slate="abc", **filled), decision("2", slate="abc", abtest="t", variant="old")])
    store.insert([report(1, "1", "b"), report(2, "1", "c", "purchase"), report(3, "2", "a")])
    rows = read_exposures(store, state, SPEC).select(["decision_id", "variant", "reward", "slots"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("1", "old", 1.0, 1), ("1", "new", 5.0, 2), ("2", "old", 1.0, 3)]


def test_what_users_had_earned_before(store: Store, clock: Clock) -> None:
    clock.now = NOON - timedelta(days=2)
    store.insert([decision(str(n), user_id="u", time=clock.now) for n in range(3)])
    store.insert([decision("nobody", user_id=None, time=clock.now)])
    store.insert([report(1, "0", "a"), report(2, "1", "a", "purchase")])
    clock.now = NOON
    store.insert([decision("now", user_id="w", time=NOON)])
    assert read_past(store, begin(store), SPEC).to_pylist() == [{"user_id": "u", "decisions": 3, "reward": 2.0}]
    assert read_past(store, begin_again(store), SPEC, days=1.0).num_rows == 0


@pytest.mark.parametrize("archived", [False, True])
def test_of_what_was_before_only_its_days_are_read(
    store: Store, clock: Clock, tmp_path: Path, archived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 days, a decision and a click each, two days count: as many as those that are read, or a part more."""
    for day in range(40, 0, -1):
        clock.now = NOON - timedelta(days=day)
        store.insert([decision(str(day), user_id="u", time=clock.now)])
        store.insert([report(day, str(day), "a", value=float(day))])
    clock.now = NOON
    if archived:
        archive(store, tmp_path / "archive")
    read, between = list[int](), bulk.decisions_between

    def count(*given: Any) -> Any:
        table = between(*given)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr(exposures, "decisions_between", count)
    [found] = read_past(store, begin(store), SPEC, days=2.5).to_pylist()
    assert (found["user_id"], found["decisions"]) == ("u", 2)
    assert 2 <= sum(read) <= 4


def begin_again(store: Store) -> ABTestState:
    variants: dict[str, Any] = {"old": {"policy": "p"}, "new": {"policy": "q"}}
    test = ABTest(name="again", kind="shadow", variants=variants, control="old")
    return start(store, test, by="me")


def test_a_shadow_is_read_beside_what_was_shown(store: Store, clock: Clock) -> None:
    state = begin(store, "shadow")
    store.insert([decision("1", slate="ab", policy="p"), decision("2", slate="ab", policy="p")])
    for number, slate in (("1", "ba"), ("2", "ab"), ("gone", "ab")):
        shadow: dict[str, Any] = {"loop": SHADOW, "abtest": "t", "variant": "new", "policy": "q"}
        store.insert([decision(to_shadow_id("new", number), slate=slate, **shadow)])
    store.insert([report(1, "2", "a", "purchase")])
    found = read_shadows(store, state, SPEC)
    rows = found.select(["decision_id", "policy_shown", "shown", "would", "match"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("1", "p", "a", "b", False), ("2", "p", "a", "a", True)]
    assert found["reward"].to_pylist() == [0.0, 5.0]
    assert found["propensity"].to_pylist() == [0.5, 0.5]
    assert found["probability"].to_pylist() == [None, None]
    [told] = match_over_time(found)
    assert (told["variant"], told["decisions"], told["match"]) == ("new", 2, 0.5)
    assert read_exposures(store, state, SPEC).num_rows == 0


def test_a_users_history_has_only_what_they_were_shown_also_in_the_archive(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    shadow: dict[str, Any] = {"loop": SHADOW, "abtest": "t", "variant": "new", "user_id": "u"}
    store.insert([decision("1", user_id="u"), decision(to_shadow_id("new", "1"), **shadow)])
    assert [entry.record for entry in history(store, "u", 10)[0]] == [decision("1", user_id="u")]
    clock.now = NOON + timedelta(days=3)
    assert archive(store, tmp_path / "archive").rows["decisions"] == 2
    assert [entry.record for entry in history(store, "u", 10)[0]] == [decision("1", user_id="u")]
    counts = erase_from_store(store, "u")
    assert store.decision(to_shadow_id("new", "1")) is None, counts


def test_dsjson_carries_what_a_decision_says_of_a_test() -> None:
    made = decision("1", abtest="t", policy="p+q", teams=("q", "p"))
    line = to_line(attribute(made, (), SPEC, NOON), ())
    read = from_line(line)
    assert read is not None
    assert read.decision == made
