"""The gate on a log whose truth is known: who is let through, what a look costs, and the verdict argued again."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision
from rl.artefacts.artefact import Artefact, load_served
from rl.gate import collection
from rl.gate.collection import Collected, Collector
from rl.gate.report import Level, find_verdict
from rl.gate.specification import GateSpec
from rl.policy.errors import PolicyError
from tests.support.clocks import Clock
from tests.support.gates import REWARD, always, by_chance, learner, log_by_chance

SPEC = GateSpec(reward=REWARD, look=250, guards=("page",))
LEVEL = 0.025

pytestmark = pytest.mark.heavy


def collect(store: Store, home: Path, spec: GateSpec = SPEC) -> Collected:
    """Try a policy that learns, and another one that shows any drink, on one that does."""
    challengers = {name: load_served(home / name) for name in ("learner", "other")}
    return Collector(store, challengers, load_served(home / "chance"), spec).collect()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    home, clock = tmp_path_factory.mktemp("shop"), Clock()
    chance = by_chance(home)
    learner(home)
    by_chance(home, "other")
    with closing(Store.open(f"sqlite:///{home / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 2_000)
        early = collect(store, home)
        log_by_chance(store, clock, chance.digest, 1_000, seed=1)
        late = collect(store, home)
        yield SimpleNamespace(home=home, clock=clock, store=store, early=early, late=late)


def test_who_is_better_is_let_through_and_who_is_not_is_not(shop: SimpleNamespace) -> None:
    comparison, verdict = find_verdict(shop.late.evidence["learner"], SPEC, LEVEL, None, shop.late.left_out)
    assert comparison is not None
    assert verdict.promote
    assert verdict.sentence.startswith("Better: after 2,750 decisions the challenger earns +0.2")
    assert all(bound.holds for bound in comparison.guarded)
    assert [bound.name for bound in comparison.guarded] == [f"page = page{number}" for number in range(4)]
    assert comparison.own == 1.0
    assert comparison.most == (4.0, 1.0)
    # It learns in service from .3 to nearly .6; the champion's own rewards are the log's.
    assert comparison.challenger.value is not None
    assert 0.42 < comparison.challenger.value.value < 0.6
    assert comparison.champion.value is not None
    assert comparison.champion.value.low < 0.3 < comparison.champion.value.high
    comparison, verdict = find_verdict(shop.late.evidence["other"], SPEC, LEVEL, None, shop.late.left_out)
    assert comparison is not None
    assert comparison.all.difference is not None
    assert abs(comparison.all.difference.value) < 0.01
    assert (verdict.promote, len(verdict.against)) == (False, 1)
    assert "not above the margin 0" in verdict.sentence


def test_a_margin_that_is_not_cleared_is_said(shop: SimpleNamespace) -> None:
    strict = SPEC.model_copy(update={"margin": 0.4})
    _, verdict = find_verdict(shop.late.evidence["learner"], strict, LEVEL, None, {})
    assert verdict.against[0].endswith("not above the margin 0.4")


def test_what_was_known_of_a_decision_is_known_of_it_for_ever(shop: SimpleNamespace) -> None:
    """Looking again, after more was logged, changes nothing of what had been seen: so looks cost nothing."""
    for name in ("learner", "other"):
        before, after = shop.early.evidence[name], shop.late.evidence[name]
        n = len(before)
        assert n == 1_750
        assert np.array_equal(before.seq, after.seq[:n])
        assert np.array_equal(before.probability, after.probability[:n])
        assert np.array_equal(before.metrics["default"].expected, after.metrics["default"].expected[:n])
        assert before.metrics["default"].cap == after.metrics["default"].cap


def test_a_policy_is_not_told_what_it_is_evaluated_on(tmp_path: Path) -> None:
    """Where sales are a coin's, a policy that learns from the log is no better than one that does not."""
    clock = Clock()
    chance, _ = by_chance(tmp_path), learner(tmp_path)
    by_chance(tmp_path, "other")
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 1_500, sold=lambda page, drink: 0.5)
        found = collect(store, tmp_path)
    comparison, verdict = find_verdict(found.evidence["learner"], SPEC, LEVEL, None, found.left_out)
    assert comparison is not None
    assert comparison.all.difference is not None
    assert comparison.all.difference.low < 0 < comparison.all.difference.high
    assert not verdict.promote


def test_a_guarded_segment_that_gets_worse_stops_it(tmp_path: Path) -> None:
    """Who always shows cola earns more, as it sells on one page; on the others it earns less."""
    clock = Clock()
    chance = by_chance(tmp_path)
    always(tmp_path, "cola")
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(
            store,
            clock,
            chance.digest,
            2_000,
            sold=lambda page, drink: (0.9 if page == 0 else 0.2) if drink == 0 else 0.3,
        )
        challengers = {"cola": load_served(tmp_path / "cola")}
        found = Collector(store, challengers, load_served(tmp_path / "chance"), SPEC).collect()
    comparison, verdict = find_verdict(found.evidence["cola"], SPEC, LEVEL, None, found.left_out)
    assert comparison is not None
    assert comparison.all.holds
    assert [bound.holds for bound in comparison.guarded] == [True, False, False, False]
    assert not verdict.promote
    assert "in the guarded segment page = page1, the lower bound of the difference is -0." in verdict.sentence


def test_a_guardrail_that_gets_worse_stops_it(tmp_path: Path) -> None:
    clock = Clock()
    chance, _ = by_chance(tmp_path), learner(tmp_path)
    by_chance(tmp_path, "other")
    harmful = RewardSpec(wait_s=60, weights={"click": -1.0})
    spec = SPEC.model_copy(update={"guardrails": {"calls": harmful}, "guards": ()})
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 1_500)
        found = collect(store, tmp_path, spec)
    comparison, verdict = find_verdict(found.evidence["learner"], spec, LEVEL, None, found.left_out)
    assert comparison is not None
    assert comparison.all.holds
    assert not verdict.promote
    assert [bound.name for bound in comparison.guarded if not bound.holds] == ["calls"]
    assert "for the guardrail calls, the lower bound of the difference is -0." in verdict.sentence


def test_slates_are_weighed_slot_by_slot(tmp_path: Path) -> None:
    clock = Clock()
    chance, _ = by_chance(tmp_path), learner(tmp_path)
    by_chance(tmp_path, "other")
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 2_000, slots=2)
        found = collect(store, tmp_path)
    comparison, _ = find_verdict(found.evidence["learner"], SPEC, LEVEL, None, found.left_out)
    assert comparison is not None
    assert comparison.slots == (2, 2)
    assert comparison.all.difference is not None
    assert 0.1 < comparison.all.difference.value < 0.3  # of .6, two of four by chance, to about .8
    other, _ = find_verdict(found.evidence["other"], SPEC, LEVEL, None, found.left_out)
    assert other is not None
    assert other.all.difference is not None
    assert other.all.difference.value == pytest.approx(0.0, abs=1e-12)


def test_what_a_policy_was_trained_on_it_is_not_evaluated_on(shop: SimpleNamespace) -> None:
    half = SPEC.model_copy(update={"since": shop.early.sample[-1].time})
    found = collect(shop.store, shop.home, half)
    assert sum(count for why, count in found.left_out.items() if why.startswith("a policy was trained")) == 2_000
    assert found.evidence["other"] is not None
    assert len(found.evidence["other"]) == 750


def test_a_log_that_says_too_little_is_no_reason_to_promote(tmp_path: Path) -> None:
    clock = Clock()
    chance, _ = by_chance(tmp_path), learner(tmp_path)
    by_chance(tmp_path, "other")
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 100)
        found = collect(store, tmp_path)
    comparison, verdict = find_verdict(found.evidence["learner"], SPEC, LEVEL, None, found.left_out)
    assert comparison is None
    assert verdict.sentence.startswith("Not promoted: the log cannot tell, the log has too few decisions")


def test_a_guardrail_that_nothing_ever_touched_stops_nobody(tmp_path: Path) -> None:
    """A tenth of no complaints is none, which no bound is above."""
    clock = Clock()
    chance, _ = by_chance(tmp_path), learner(tmp_path)
    by_chance(tmp_path, "other")
    calls = RewardSpec(wait_s=60, weights={"reject": -1.0})
    spec = SPEC.model_copy(update={"guardrails": {"calls": calls}, "guards": ()})
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 1_500)
        found = collect(store, tmp_path, spec)
    comparison, verdict = find_verdict(found.evidence["learner"], spec, LEVEL, None, found.left_out)
    assert comparison is not None
    assert [(bound.name, bound.holds, bound.champion) for bound in comparison.guarded] == [("calls", True, 0.0)]
    assert verdict.promote


def test_reasons_that_name_what_each_was_about_are_not_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    chance = by_chance(tmp_path)
    by_chance(tmp_path, "other")
    with closing(Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)) as store:
        log_by_chance(store, clock, chance.digest, 600)
        collector = Collector(store, {"other": load_served(tmp_path / "other")}, load_served(tmp_path / "chance"), SPEC)

        def fail(artefact: Artefact, decisions: Sequence[Decision], *_: object) -> list[Exception]:
            return [PolicyError(f"<b>{one.decision_id}</b> cannot be answered") for one in decisions]

        monkeypatch.setattr(collection, "choose", fail)
        found = collector.collect()
    assert found.evidence["other"] is None
    assert sum(found.left_out.values()) == 600
    assert len(found.left_out) < 60
    assert found.left_out["cannot be answered: other reasons"] > 500
    _, verdict = find_verdict(None, SPEC, LEVEL, None, found.left_out)
    assert not verdict.promote


def test_what_is_asked_of_bounds_is_asked_of_numbers() -> None:
    for wrong, said in (
        ({"rewards": (1.0, 1.0)}, "the least must be below the most, got 1 and 1"),
        ({"rewards": (0.0, float("inf"))}, "finite"),
        ({"margin": float("nan")}, "finite"),
        ({"tolerance": float("inf")}, "finite"),
    ):
        with pytest.raises(ValidationError, match=said):
            GateSpec.model_validate(wrong)


def test_bounds_of_other_terms_are_other_looks() -> None:
    other: list[dict[str, Any]] = [
        {"rewards": (0.0, 1.0)},
        {"since": Clock()()},
        {"horizon": 1_000},
        {"reward": RewardSpec()},
    ]
    assert len({SPEC.sequence, *(SPEC.model_copy(update=one).sequence for one in other)}) == 5
    same: list[dict[str, Any]] = [
        {"margin": 0.1},
        {"alpha": 0.01},
        {"guards": ()},
        {"tolerance": 0.2},
        {"slowdown": 2.0},
    ]
    assert {SPEC.model_copy(update=one).sequence for one in same} == {SPEC.sequence}


def test_all_levels_together_are_the_gates() -> None:
    """Of families of 1, 10 and 3, and of any number that may follow."""
    levels = [Level.of(0.05, family, members) for family, members in ((1, 1), (2, 10), (3, 3))]
    assert [level.level for level in levels] == pytest.approx([0.05 / 2, 0.05 / 60, 0.05 / 36])
    assert sum(Level.of(0.05, family, 7).level * 7 for family in range(1, 10_000)) < 0.05
