"""A record that cannot be learned stops nothing else: it is counted, listed with its place, and left out by all."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.attribution.join import attribute
from data.dsjson import export_lines, import_lines
from data.log.current.users import history, past
from data.log.erasures import erase_from_store
from data.log.following import routed_decisions
from data.log.loops import fold_steps
from data.reward import RewardSpec
from data.schema import Features, Version
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import shelve
from rl.encoders.customers import CustomerEncoder
from rl.online.fold import FoldSpec
from rl.online.guard import Guard
from rl.online.learner import OnlineLearner
from rl.policies.rfm.policy import RFMBandit
from rl.policy.queries import Impressions
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.audit.run import audit
from serve.decisions.served import Served
from serve.learning import loops as loops_module
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.support.logs import Written, described
from tests.support.rows import feedback_rows
from tests.support.shops import untrained
from tests.support.visits import visit

SPEC = RewardSpec(wait_s=60.0)
FAULTS = Path(__file__).parents[3] / "faults"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, store=None, archive=None)


def learner(log: Written, encoder: CustomerEncoder, fold_id: str | None = None, **more: Artefact) -> OnlineLearner:
    artefacts = {"described": described(history=4), "rfm_bandit": untrained(encoder, "rfm_bandit"), **more}
    return OnlineLearner(log.store, artefacts, FoldSpec(reward=SPEC, learn_from="all"), log.clock, fold_id)


def state(following: OnlineLearner, name: str) -> dict[str, np.ndarray]:
    return following.publication().artefacts[name].policy.state_dict()


def learned(following: OnlineLearner, name: str = "rfm_bandit") -> float:
    """Return how many slots a policy has learned."""
    found = state(following, name)
    return float(found["counts" if name == "rfm_bandit" else "count"].sum())


def listed(following: OnlineLearner) -> set[tuple[str, int, str | None]]:
    return {(row.table, row.position, row.policy) for row in following.set_aside.list_last()}


DAMAGE = {
    "features that are no JSON": ("UPDATE decisions SET features = '{\"conte' WHERE seq = 3", {None}),
    "features of another kind": ("UPDATE decisions SET features = '5' WHERE seq = 3", {None}),
    "a slate that is a number": ("UPDATE decisions SET slate = '5' WHERE seq = 3", {None}),
    "a slate that is no text": ("UPDATE decisions SET slate = x'ff' WHERE seq = 3", {None}),
    "bytes that are no text": ("UPDATE decisions SET slate = CAST(x'5b22ff225d' AS TEXT) WHERE seq = 3", {None}),
    "a time that is a text": ("UPDATE decisions SET time = 'noon' WHERE seq = 3", {None}),
    "a time beyond all years": ("UPDATE decisions SET time = 9223372036854775807 WHERE seq = 3", {None}),
    "items that are not described": ("UPDATE decisions SET features = '{\"items\": [[{}]]}' WHERE seq = 3", None),
    "a number beyond all": (
        'UPDATE decisions SET features = \'{"context": [{"x": 1e300}]}\' WHERE seq = 3',
        {"described"},
    ),
    "a number beyond all of an item": (
        'UPDATE decisions SET features = \'{"items": [[{"x": -1e16}], [{}]]}\' WHERE seq = 3',
        {"described"},
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("clicked", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_decision_is_set_aside_and_all_others_are_learned(
    log: Written, encoder: CustomerEncoder, damage: str, clicked: bool
) -> None:
    statement, policies = DAMAGE[damage]
    for number in range(6):
        log.decide(user_id=f"u{number}")
    if clicked:
        for decision in log.made[1:4]:
            log.report(decision)
    log.damage(statement)
    log.clock.advance(200)
    following = learner(log, encoder)
    following.catch_up()
    assert {row[:2] for row in listed(following)} == {("decisions", 3)}
    assert policies is None or {row[2] for row in listed(following)} == policies
    assert all(row.reason for row in following.set_aside.list_last())
    unread = bool({None, "rfm_bandit"} & {row[2] for row in listed(following)})
    assert learned(following) == (10 if unread else 12)
    assert learned(following, "described") == 10
    # The others are learned as if it had never been.
    log.damage("DELETE FROM decisions WHERE seq = 3")
    without = learner(log, encoder)
    without.catch_up()
    assert without.set_aside.count == 0
    for name in ("described", *(["rfm_bandit"] if unread else [])):
        for one, other in zip(state(following, name).values(), state(without, name).values(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change",
    ["value = 'much'", "value = 9e999", "received_at = 'noon'", "item_id = x'ff'", "kind = CAST(x'ff' AS TEXT)"],
)
def test_a_bad_report_is_set_aside_and_its_decision_is_learned(
    log: Written, encoder: CustomerEncoder, change: str
) -> None:
    for _ in range(3):
        log.decide()
    for decision in log.made:
        log.report(decision, "purchase")
    log.damage(f"UPDATE feedback SET {change} WHERE seq = 2")
    log.clock.advance(200)
    following = learner(log, encoder)
    following.catch_up()
    assert learned(following) == 6
    assert state(following, "rfm_bandit")["sums"].sum() == pytest.approx(10.0)
    if not change.startswith("item_id"):  # that is an item that was not shown: nothing is damaged
        assert ("feedback", 2, None) in listed(following)


def test_what_arrives_while_following_is_set_aside_as_well_and_once(log: Written, encoder: CustomerEncoder) -> None:
    following = learner(log, encoder)
    for _ in range(3):
        log.decide()
        following.poll()
    log.damage("UPDATE decisions SET slate = '[' WHERE seq = 2")
    for _ in range(2):
        for decision in log.made:
            log.report(decision)
            following.poll()
    log.clock.advance(200)
    following.poll()
    assert (following.set_aside.count, learned(following)) == (1, 4)
    assert following.positions == (3, 6)


@pytest.mark.heavy
def test_what_was_set_aside_is_set_aside_again_and_states_repeat_bit_by_bit(
    log: Written, encoder: CustomerEncoder
) -> None:
    following = learner(log, encoder)
    states = dict[int, dict[str, dict[str, np.ndarray]]]()
    for number in range(30):
        decision = log.decide(features=Features(context=({"x": 1e300 if number % 7 == 0 else 1.0},)))
        if number % 5 == 3:
            log.damage("UPDATE decisions SET features = '{' WHERE seq = ?", number + 1)
        if number % 2:
            log.report(decision, slot=number % 3 % 2)
        log.clock.advance(7)
        if update := following.poll():
            states[update.number] = {name: state(following, name) for name in ("described", "rfm_bandit")}
    assert following.set_aside.count > 5
    versions: list[Version] = fold_steps(log.store, following.fold_id)
    again = learner(log, encoder, following.fold_id)
    for version in versions[1:]:
        again.replay(version)
        for name, expected in states[version.number].items():
            for key, array in state(again, name).items():
                np.testing.assert_array_equal(array, expected[key])
    assert listed(again) == listed(following)
    fresh = learner(log, encoder)
    fresh.catch_up()
    assert fresh.set_aside.count == following.set_aside.count


class Refusing(RFMBandit):
    """Cannot learn a reward of 5, and says so when it is half done."""

    def update(self, observations: Impressions) -> None:
        if (observations.rewards == 5.0).any():
            self._counts += 1
            raise RuntimeError("not five")
        super().update(observations)


class Spoiling(RFMBandit):
    """Turns its sums into nothing when it learns a reward of 5."""

    def update(self, observations: Impressions) -> None:
        super().update(observations)
        if (observations.rewards == 5.0).any():
            self._sums[:] = np.nan


@pytest.mark.parametrize("kind", [Refusing, Spoiling])
def test_an_update_that_fails_takes_nothing_down(
    log: Written, encoder: CustomerEncoder, kind: type[RFMBandit], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl.online.guard._CHECKPOINT_ROWS", 1)  # look at each state
    broken = untrained(encoder, "rfm_bandit")
    broken.policy.__class__ = kind
    following = learner(log, encoder, broken=broken)
    for number in range(9):
        decision = log.decide()
        log.report(decision, "purchase" if number == 4 else "click")
        if number % 3 == 2:
            following.poll()
    assert listed(following) == {("decisions", 5, "broken")}
    assert (learned(following), state(following, "broken")["counts"].sum()) == (18, 16)
    assert state(following, "broken")["sums"].sum() == pytest.approx(8.0)
    log.report(log.made[4], "purchase", value=3.0)  # nor is it corrected
    log.report(log.made[0], "purchase", value=2.0)
    following.poll()
    assert state(following, "broken")["sums"].sum() == pytest.approx(8.0 - 1.0 + 10.0)
    assert state(following, "rfm_bandit")["sums"].sum() == pytest.approx(7.0 + 10.0 + 15.0)


class Choking(RFMBandit):
    """Learns two purchases, but not at once."""

    def update(self, observations: Impressions) -> None:
        if (observations.rewards == 5.0).sum() > 1:
            raise RuntimeError("one at a time")
        super().update(observations)


def test_what_can_be_learned_alone_only_is_left_out_together(log: Written, encoder: CustomerEncoder) -> None:
    choking = untrained(encoder, "rfm_bandit")
    choking.policy.__class__ = Choking
    following = learner(log, encoder, choking=choking)
    for kind in ("purchase", "click", "purchase"):
        log.report(log.decide(), kind)
    following.poll()
    assert listed(following) == {("decisions", seq, "choking") for seq in (1, 2, 3)}
    assert (learned(following), state(following, "choking")["counts"].sum()) == (6, 0)
    log.report(log.decide())
    following.poll()
    assert state(following, "choking")["counts"].sum() == 2


@pytest.mark.parametrize("rows", [1, 7, 20_000])
def test_a_policy_comes_back_to_what_it_was_bit_by_bit(
    log: Written, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rl.online.guard._CHECKPOINT_ROWS", rows)
    one, other = described(), described()
    guard, plain = Guard(one), Guard(other)
    for number in range(12):
        outcome = attribute(log.decide(), [], RewardSpec(default=0.1 * number), log.clock())
        for tried in (guard, plain):
            assert tried.learn([(outcome, None)])[1] == []
        guard._dry_run([(outcome, None)])
        guard._restore()
    for name, array in one.policy.state_dict().items():
        np.testing.assert_array_equal(array, other.policy.state_dict()[name])


def test_a_user_who_is_forgotten_while_his_decision_waits(log: Written, encoder: CustomerEncoder) -> None:
    following = learner(log, encoder)
    theirs, other = log.decide(user_id="ann"), log.decide(user_id="bob")
    following.poll()
    erase_from_store(log.store, "ann")
    log.report(theirs)  # an orphan now
    log.report(other)
    following.poll()
    log.clock.advance(200)
    following.poll()
    assert (learned(following), following.set_aside.count, following.waiting) == (2, 0, 0)


# Plans, policies and folds


def loops(log: Written, settings: Settings, *plans: Plan) -> Loops:
    return Loops(log.store, settings, [lambda: plans], log.clock)


def kept(settings: Settings, encoder: CustomerEncoder, name: str) -> str:
    save(untrained(encoder, name), settings.home / "policies" / name)
    return shelve(settings.home / "policies" / name, settings).digest


def plan(policies: dict[str, str], objective: str = "default") -> Plan:
    return Plan(FoldSpec(objective=objective, reward=SPEC, learn_from="all"), policies)


def test_a_policy_that_cannot_be_loaded_is_left_out_and_its_customers_go_to_the_others(
    log: Written, settings: Settings, encoder: CustomerEncoder
) -> None:
    digest = kept(settings, encoder, "rfm_bandit")
    running = loops(
        log, settings, plan({"rfm_bandit": digest, "gone": "1234abcd"}), plan({"gone": "1234abcd"}, "other")
    )
    served = Served({"v1": {"gone": 3.0, "rfm_bandit": 1.0}}, ["other"])
    served.take(running.news(served.steps()))
    decisions = [
        served.at("v1").decide(visit(served.at("v1"), f"d{n}", log.clock(), 1, user_id=f"u{n}")) for n in range(20)
    ]
    assert {decision.policy for decision in decisions} == {"rfm_bandit"}
    default, other = running.states()
    assert (default.state, default.policies, list(default.not_served)) == ("following", ("rfm_bandit",), ["gone"])
    assert (other.state, other.fold_id) == ("failed", None)
    assert "1234abcd" in str(other.reason)
    assert served.list_missing() == [("v1", "other")]


def test_where_nothing_can_be_served_the_start_fails_and_says_why(log: Written, settings: Settings) -> None:
    with pytest.raises(ArtefactError, match=r"no policy can be served: gone: .*1234abcd"):
        loops(log, settings, plan({"gone": "1234abcd"}))


def test_a_fold_that_fails_is_said_and_begun_anew_and_the_others_go_on(
    log: Written, settings: Settings, encoder: CustomerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = kept(settings, encoder, "rfm_bandit")
    running = loops(log, settings, plan({"rfm_bandit": digest}), plan({"rfm_bandit": digest}, "other"))
    served = Served({"v1": {"rfm_bandit": 1.0}}, ["other"])
    served.take(running.news(served.steps()))
    log.report(log.decide())

    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    first = running.current["v1", "default"].learner.fold_id
    monkeypatch.setattr(running.current["v1", "default"].learner, "poll", fail)
    assert running.poll()  # the other has learned
    default, other = running.states()
    assert (default.state, default.reason) == ("failed", "RuntimeError: a fault of ours")
    assert (other.state, other.feedback_through) == ("following", 1)
    served.take(running.news(served.steps()))
    assert (served.at("v1").fold_id, served.at("v1").number) == (first, 0)  # what was published goes on
    assert served.at("v1", "other").number == 1

    monkeypatch.setattr(Loops, "_begin", lambda *_: fail())
    assert not running.refresh()
    assert not running.refresh()  # not at once again
    assert running.states()[0].state == "failed"
    monkeypatch.undo()
    monkeypatch.setattr(loops_module, "monotonic", lambda: 1e12)
    assert running.refresh()
    served.take(running.news(served.steps()))
    assert served.at("v1").fold_id != first
    assert (running.states()[0].state, running.states()[0].feedback_through) == ("following", 1)


def test_a_follower_that_cannot_take_over_an_update_asks_for_all_anew(
    log: Written, settings: Settings, encoder: CustomerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = loops(log, settings, plan({"rfm_bandit": kept(settings, encoder, "rfm_bandit")}))
    served = Served({"v1": {"rfm_bandit": 1.0}})
    served.take(running.news(served.steps()))
    log.report(log.decide())
    running.poll()

    def fail(_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(served.at("v1"), "apply", fail)
    served.take(running.news(served.steps()))
    assert served.steps() == {}
    served.take(running.news(served.steps()))
    assert served.steps() == {("v1", "default"): (running.current["v1", "default"].learner.fold_id, 1)}


@pytest.mark.parametrize("name", ["02-string-list.dsjson", "02-no-slots.dsjson"])
def test_the_learner_starts_on_lines_that_could_not_be_learned(log: Written, settings: Settings, name: str) -> None:
    with (FAULTS / name).open("rb") as file:
        counts, rejected = import_lines(log.store, file, "personalizer")
    log.clock.now += timedelta(days=3_650)
    running = Loops(log.store, settings, [PersonalizerSource(settings, log.store)], log.clock)
    (found,) = running.states()
    assert found.decisions_through == counts["decisions"]
    lines = (FAULTS / name).read_bytes().splitlines()
    assert counts["decisions"] + len(rejected) == len(lines)
    artefact = running.current["personalizer", "default"].learner.publication().artefacts["personalizer"]
    assert artefact.policy.state_dict()["count"].sum() == counts["decisions"] - found.rows_set_aside


def test_the_audit_makes_all_others_again(log: Written, settings: Settings, encoder: CustomerEncoder) -> None:
    running = loops(log, settings, plan({"rfm_bandit": kept(settings, encoder, "rfm_bandit")}))
    served = Served({"v1": {"rfm_bandit": 1.0}})
    for number in range(12):
        served.take(running.news(served.steps()))
        decision = served.at("v1").decide(visit(served.at("v1"), f"d{number}", log.clock(), 2, user_id=f"u{number}"))
        log.store.insert([decision])
        if number == 5:
            log.damage("UPDATE decisions SET slate = '{' WHERE decision_id = 'd5'")
        else:
            log.report(decision)
        running.poll()
        log.clock.advance(20)
    day = timedelta(days=1)
    found = audit(log.store, settings, log.clock() - day, log.clock() + day)
    assert (found.decisions, found.mismatches) == (11, [])
    assert [line.split(":")[0] for line in found.unreadable] == ["row 6 of decisions"]


# Who else reads the log


def test_every_other_reader_passes_a_bad_row_over(log: Written) -> None:
    for number in range(5):
        log.report(log.decide(user_id="ann", node_id="app", decision_id=f"d{number}"), "purchase")
    log.damage("UPDATE decisions SET slate = '{' WHERE seq = 2")
    log.damage("UPDATE feedback SET received_at = 'noon' WHERE seq = 4")
    store = log.store
    assert [seq for seq, _ in store.decisions()] == [1, 3, 4, 5]
    assert [seq for seq, _ in routed_decisions(store, 0, "app")] == [1, 3, 4, 5]
    assert [seq for seq, _ in feedback_rows(store)] == [1, 2, 3, 5]
    assert store.decision("d1") is None
    assert len(store.decisions_by_id([f"d{n}" for n in range(5)])) == 4
    page, _ = history(store, "ann", 10)
    assert len(page) == 4
    seen = past(store, "ann", log.clock() - timedelta(days=1), log.clock() - timedelta(days=1))
    assert seen.bought == {decision.slate[0] for number, decision in enumerate(log.made) if number != 1}
    counts: Any = {"exported": 0, "pending": 0, "empty": 0}
    lines = list(export_lines(store, "v1", SPEC, counts))
    assert (len(lines), counts["set_aside"]) == (counts["exported"], 2)
