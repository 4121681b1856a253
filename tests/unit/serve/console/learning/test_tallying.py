"""A tally that follows a log, against the attribution of its decisions one by one."""

from datetime import timedelta

import numpy as np
import pytest

from data.attribution.join import attribute
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import ACTIVATE, ORACLE, SHADOW, Feedback, Slot
from rl.evaluation.board.curves import draw_curves
from rl.evaluation.board.tally import COUNT, SUM, Arm
from serve.console.learning import tallying
from serve.console.learning.tallying import PlaceTally
from tests.support.clocks import Clock
from tests.support.logs import Written

SPEC = RewardSpec(wait_s=600.0)
HISTORY = timedelta(days=30)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(store: Store, clock: Clock) -> Written:
    return Written(store, clock)


def follow(store: Store, spec: RewardSpec = SPEC) -> PlaceTally:
    return PlaceTally(store, "v1", "default", spec, HISTORY)


def catch_up(tally: PlaceTally) -> None:
    while tally.step():
        pass


def total(tally: PlaceTally, policy: str = "described") -> tuple[int, float]:
    curve = next(one for one in draw_curves(tally.tally, lambda arm: arm.policy).curves if one.name == policy)
    return curve.decisions, float(curve.total.value[0] * curve.decisions)


def attributed(log: Written, spec: RewardSpec = SPEC) -> float:
    """Return what all decisions have earned, one by one."""
    reports = log.store.feedback_of([one.decision_id for one in log.made])
    late = log.clock() + timedelta(days=1)
    return sum(attribute(one, reports.get(one.decision_id, []), spec, late).reward for one in log.made)


def test_decisions_and_reports_are_followed_as_they_come(log: Written, store: Store, clock: Clock) -> None:
    rng = np.random.default_rng(0)
    tally = follow(store)
    for _ in range(12):
        made = [log.decide(policy=("one", "other")[int(rng.integers(2))]) for _ in range(5)]
        clock.advance(30)
        for decision in (*made, *log.made[-20:-5:4]):  # some of those that were added with less before
            if rng.random() < 0.7:
                kind = ("view", "click", "purchase")[int(rng.integers(3))]
                log.report(decision, kind, slot=int(rng.integers(2)))
        catch_up(tally)
        counts = [total(tally, name) for name in {one.policy for one in log.made}]
        assert sum(count for count, _ in counts) == len(log.made)
        assert sum(reward for _, reward in counts) == pytest.approx(attributed(log))
    anew = follow(store)
    catch_up(anew)
    assert np.allclose(anew.tally.items.sum(0), tally.tally.items.sum(0))


@pytest.mark.parametrize(
    "spec",
    [
        RewardSpec(aggregation="sum", default=-0.5),
        RewardSpec(credit="slate", aggregation="mean"),
        RewardSpec(seen_by="view", default=-1.0),
        RewardSpec(half_life_s=60.0),
    ],
    ids=["sum", "slate", "seen_by", "half_life"],
)
def test_every_specification_earns_what_it_says(log: Written, store: Store, clock: Clock, spec: RewardSpec) -> None:
    tally = follow(store, spec)
    for number in range(20):
        decision = log.decide()
        catch_up(tally)
        clock.advance(20)
        for kind in ("view", "click", "purchase")[: number % 4]:
            log.report(decision, kind, slot=number % 2)
    catch_up(tally)
    count, earned = total(tally)
    assert count == 20
    assert earned == pytest.approx(attributed(log, spec))


def test_a_report_after_the_window_counts_nothing_and_windows_are_forgotten(
    log: Written, store: Store, clock: Clock
) -> None:
    decision, tally = log.decide(), follow(store)
    catch_up(tally)
    assert tally.progress.open == 1
    clock.advance(SPEC.wait_s + 60)
    log.report(decision, "purchase")
    catch_up(tally)
    assert total(tally) == (1, 0.0)
    assert tally.progress.open == 0


def test_a_deferred_decision_counts_when_it_is_shown(log: Written, store: Store, clock: Clock) -> None:
    decision, tally = log.decide(deferred=True), follow(store)
    catch_up(tally)
    assert draw_curves(tally.tally, lambda arm: arm.policy).curves == ()
    store.insert([Feedback(feedback_id="a", decision_id=decision.decision_id, kind=ACTIVATE)])
    log.report(decision, "click")
    catch_up(tally)
    assert total(tally) == (1, 1.0)


def test_slots_with_names_of_their_own_are_rewarded_by_these(log: Written, store: Store) -> None:
    slots = (Slot(slot_id="top"), Slot(slot_id="side"))
    decision, tally = log.decide(slots=slots), follow(store)
    store.insert([Feedback(feedback_id="a", decision_id=decision.decision_id, kind="click", item_id="side")])
    catch_up(tally)
    assert total(tally) == (1, 1.0)
    number = tally.tally.item_numbers[decision.slate[1]]
    assert tally.tally.items[0, number, [COUNT, SUM]].tolist() == [1.0, 1.0]


def test_other_loops_and_objectives_are_not_counted_and_variants_are_arms(log: Written, store: Store) -> None:
    log.decide(loop=SHADOW, decision_id="shadow:a:d0")
    log.decide(objective="margin")
    log.decide(abtest="price", variant="treated")
    tally = follow(store)
    catch_up(tally)
    assert list(tally.tally.arms) == [Arm("described", "price", "treated")]


def test_an_oracle_reports_what_the_best_slate_earns_and_that_is_no_reward(log: Written, store: Store) -> None:
    tally = follow(store)
    for _ in range(3):
        decision = log.decide()
        log.report(decision, "click")
        store.insert(
            [
                Feedback(
                    feedback_id=f"o{decision.decision_id}", decision_id=decision.decision_id, kind="oracle", value=4.0
                )
            ]
        )
        catch_up(tally)
    assert total(tally) == (3, 3.0)
    curves = draw_curves(tally.tally, lambda arm: arm.policy)
    assert curves.reference == ORACLE
    assert curves.curves[0].regret is not None
    assert curves.curves[0].regret.value[-1] == pytest.approx(9.0)


def test_where_too_many_are_open_the_oldest_are_taken_as_they_are(
    log: Written, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallying, "MOST_OPEN", 3)
    monkeypatch.setattr(tallying, "ROWS", 2)
    for _ in range(8):
        log.decide()
    tally = follow(store)
    catch_up(tally)
    assert tally.progress.open <= 3
    assert total(tally) == (8, 0.0)


def test_history_before_its_beginning_is_left_out(log: Written, store: Store, clock: Clock) -> None:
    log.decide()
    clock.advance(timedelta(days=40).total_seconds())
    log.decide()
    tally = follow(store)
    catch_up(tally)
    assert total(tally) == (1, 0.0)
