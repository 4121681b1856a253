"""The online learner learns from a growing log what a batch run learns from the finished one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.attribution.join import join
from data.log.following import SeenDecision, new_decisions
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback, Rules
from rl.artefacts.artefact import Artefact
from rl.encoders.customers import CustomerEncoder
from rl.encoders.visit import Visit
from rl.experience.events import logged_outcomes
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.observe import observe
from rl.policies import build
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from tests.support.clocks import NOON, Clock
from tests.support.shops import POLICIES, untrained
from tests.support.shops import recommender as make
from tests.support.visits import visit

SPEC = RewardSpec(wait_s=60.0, default=-0.1, aggregation="max")
LEARNING = ("linear_thompson", "rfm_bandit")


@dataclass
class Log:
    store: Store
    clock: Clock
    encoder: CustomerEncoder

    def learner(self, names: tuple[str, ...] = LEARNING, learn_from: str = "own") -> OnlineLearner:
        assert learn_from in ("own", "all")
        spec = FoldSpec(reward=SPEC, learn_from=learn_from)
        return OnlineLearner(self.store, self.artefacts(names), spec, self.clock)

    def artefacts(self, names: tuple[str, ...] = LEARNING) -> dict[str, Artefact]:
        return {name: untrained(self.encoder, name) for name in names}

    def decide(self, count: int, seed: int) -> list[Decision]:
        """Log decisions of both policies, by turns."""
        recommender = make(self.artefacts(), dict.fromkeys(LEARNING, 1.0))
        users = np.random.default_rng(seed).choice(self.encoder.users, size=count)
        decisions = [
            recommender.decide(visit(recommender, f"{seed}-{i}", self.clock.now, 4, user, policy=LEARNING[i % 2]))
            for i, user in enumerate(users.tolist())
        ]
        self.store.insert(decisions)
        return decisions

    def report(self, decision: Decision, kind: str, slot: int = 0, feedback_id: str | None = None) -> None:
        item = decision.slate[slot]
        name = feedback_id or f"{decision.decision_id}/{kind}/{slot}"
        self.store.insert([Feedback(feedback_id=name, decision_id=decision.decision_id, item_id=item, kind=kind)])


@pytest.fixture
def log(tmp_path: Path, encoder: CustomerEncoder) -> Iterator[Log]:
    clock = Clock()
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", clock)
    yield Log(store, clock, encoder)
    store.close()


def batch_state(log: Log, name: str, learn_from: str = "own") -> dict[str, np.ndarray]:
    """Learn the whole log at once, without the online learner."""
    decisions = [decision for _, decision in log.store.decisions()]
    feedback = log.store.feedback_of([decision.decision_id for decision in decisions])
    due = [
        outcome
        for outcome in join(decisions, feedback, SPEC, log.clock.now)
        if outcome.due and (learn_from == "all" or outcome.decision.policy == name)
    ]
    encoder = log.encoder
    policy = build(POLICIES[name], encoder.n_features, encoder.n_states, encoder.popularity)
    policy.update(observe(due, encoder))
    return policy.state_dict()


def state(learner: OnlineLearner, name: str) -> dict[str, np.ndarray]:
    return learner.publication().artefacts[name].policy.state_dict()


def assert_same_state(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=1e-9)


def live(log: Log, learner: OnlineLearner) -> None:
    """Let a shop live for a while: clicks, clicks that become purchases, late, unknown and orphan reports, silence."""
    rng = np.random.default_rng(7)
    earlier: list[Decision] = []
    for minute in range(6):
        decisions = log.decide(12, seed=minute)
        learner.poll()
        for decision in decisions:
            if rng.random() < 0.5:
                log.report(decision, "click", slot=int(rng.integers(4)))
        learner.poll()
        log.clock.advance(10)
        for decision in decisions[:4]:
            log.report(decision, "purchase", slot=int(rng.integers(4)))  # in time: corrects what was folded
        for decision in earlier:
            log.report(decision, "purchase", slot=1, feedback_id=f"late/{decision.decision_id}")
        log.report(decisions[0], "applause")
        log.store.insert([Feedback(feedback_id=f"orphan/{minute}", decision_id="never made", kind="click")])
        learner.poll()
        log.clock.advance(60)
        earlier = decisions
    learner.poll()


@pytest.mark.heavy
@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("learn_from", ["own", "all"])
def test_online_equals_batch(log: Log, name: str, learn_from: str) -> None:
    learner = log.learner(learn_from=learn_from)
    live(log, learner)
    assert_same_state(state(learner, name), batch_state(log, name, learn_from))
    assert state(learner, name)["b" if name == "linear_thompson" else "counts"].any()


@pytest.mark.heavy
def test_a_restarted_learner_comes_back_with_the_same_state(log: Log) -> None:
    learner = log.learner()
    live(log, learner)
    restarted = log.learner()
    while restarted.poll():
        pass
    before, after = learner.publication(), restarted.publication()
    assert after.learned_through == before.learned_through
    for name in LEARNING:
        assert_same_state(state(restarted, name), state(learner, name))


def test_a_follower_that_applies_every_update_has_the_learners_state(log: Log) -> None:
    learner, artefacts = log.learner(), log.artefacts()
    recommender = make(artefacts, dict.fromkeys(LEARNING, 1.0))
    for minute in range(3):
        for decision in log.decide(6, seed=minute):
            log.report(decision, "click")
        update = learner.poll()
        assert update is not None
        recommender.apply(update)
    publication = learner.publication()
    assert recommender.number == publication.number
    for name, artefact in artefacts.items():
        assert_same_state(artefact.policy.state_dict(), state(learner, name))


def test_a_click_that_becomes_a_purchase_is_corrected(log: Log) -> None:
    learner = log.learner(("rfm_bandit",))
    decision = log.decide(2, seed=0)[1]
    item = log.encoder.item_positions(decision.slate)
    log.report(decision, "click", slot=2)
    learner.poll()
    sums = state(learner, "rfm_bandit")["sums"].sum(axis=0)
    np.testing.assert_allclose(sums[item], [-0.1, -0.1, 1.0, -0.1])
    log.report(decision, "purchase", slot=2)
    learner.poll()
    learned = state(learner, "rfm_bandit")
    np.testing.assert_allclose(learned["sums"].sum(axis=0)[item], [-0.1, -0.1, 5.0, -0.1])
    np.testing.assert_allclose(learned["counts"].sum(axis=0)[item], [1, 1, 1, 1])


def test_silence_is_learned_when_the_window_closes_and_not_before(log: Log) -> None:
    learner = log.learner(("rfm_bandit",))
    log.decide(2, seed=0)
    log.clock.advance(60)
    assert learner.poll() is None
    log.clock.advance(0.001)
    update = learner.poll()
    assert update is not None
    assert state(learner, "rfm_bandit")["sums"].sum() == pytest.approx(4 * -0.1)


def test_feedback_that_was_logged_before_its_decision_counts(log: Log) -> None:
    learner = log.learner(("rfm_bandit",))
    early = Feedback(feedback_id="early", decision_id="0-1", kind="purchase")
    log.store.insert([early])
    learner.poll()
    log.decide(2, seed=0)
    learner.poll()
    assert state(learner, "rfm_bandit")["sums"].max() == pytest.approx(5.0)


def test_nothing_new_is_no_update(log: Log) -> None:
    learner = log.learner()
    assert learner.poll() is None
    for decision in log.decide(2, seed=0):
        log.report(decision, "view")
    assert learner.poll() is not None
    assert learner.poll() is None


def test_a_closed_decision_is_forgotten(log: Log) -> None:
    learner = log.learner()
    log.decide(4, seed=0)
    learner.poll()
    log.clock.advance(1_000)
    learner.poll()
    assert not learner.waiting


@pytest.mark.heavy
def test_what_an_artefact_was_trained_on_is_not_learned_again(log: Log) -> None:
    """Trained from the log up to a moment, then served: the same as learning the whole log online."""
    whole = log.learner(("rfm_bandit",), learn_from="all")
    live(log, whole)
    middle = NOON + timedelta(seconds=200)
    artefacts = log.artefacts(("rfm_bandit",))
    trained = artefacts["rfm_bandit"].policy
    [outcomes] = logged_outcomes(log.store, SPEC, middle)
    assert [one for some in logged_outcomes(log.store, SPEC, middle, rows=7) for one in some] == outcomes
    trained.update(observe(outcomes, log.encoder))
    assert trained.state_dict()["counts"].any()
    artefacts["rfm_bandit"] = replace(artefacts["rfm_bandit"], learned_until=middle)
    continued = OnlineLearner(log.store, artefacts, FoldSpec(reward=SPEC, learn_from="all"), log.clock)
    while continued.poll():
        pass
    assert_same_state(state(continued, "rfm_bandit"), state(whole, "rfm_bandit"))


@pytest.mark.heavy
def test_a_follower_takes_over_a_publication_that_then_stays_as_it_is(log: Log) -> None:
    learner = log.learner()
    live(log, learner)
    recommender = Recommender(Router(dict.fromkeys(LEARNING, 1.0)))
    recommender.restore(learner.publication())
    one = visit(recommender, "d", log.clock.now, 3, log.encoder.users[0], policy="rfm_bandit")
    before = recommender.decide(one)
    for decision in log.decide(20, seed=99):
        log.report(decision, "purchase")
    learner.poll()
    assert recommender.decide(one) == before
    assert before.policy_version == f"00000000.{learner.fold_id}.{recommender.number}"


def test_a_learner_that_lags_loses_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feedback that was received in time counts, however late it is read."""
    monkeypatch.setattr("rl.online.reading.MAX_ROWS", 10)
    learner = log.learner(("rfm_bandit",))
    decisions = log.decide(40, seed=0)
    learner.poll()
    for decision in decisions:
        log.report(decision, "purchase", slot=0)
        log.report(decision, "click", slot=1)
    log.clock.advance(300)
    learner.catch_up()
    assert_same_state(state(learner, "rfm_bandit"), batch_state(log, "rfm_bandit"))


def test_catching_up_reads_a_silent_log_to_its_end(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.online.reading.MAX_ROWS", 10)
    for decision in log.decide(35, seed=0)[-2:]:
        log.report(decision, "click")
    learner = log.learner()
    last = learner.catch_up()
    assert last is not None
    assert last.learned_through == 2
    assert state(learner, "rfm_bandit")["counts"].sum() == 4  # the one decision of the two that was this policy's


def test_two_states_never_have_the_same_number(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records that are committed between the learner's two reads are learned once, at a later step."""
    learner = log.learner(("rfm_bandit",))
    read = new_decisions

    def interrupted(*arguments: Any, **options: Any) -> list[SeenDecision]:
        for decision in log.decide(2, seed=1):
            log.report(decision, "purchase")
        monkeypatch.undo()
        return read(*arguments, **options)

    for decision in log.decide(2, seed=0):
        log.report(decision, "click")
    monkeypatch.setattr("rl.online.reading.new_decisions", interrupted)
    seen = {}
    while update := learner.poll():
        seen[update.number] = state(learner, "rfm_bandit")["sums"].sum()
    assert len(set(seen.values())) == len(seen) == 2
    assert_same_state(state(learner, "rfm_bandit"), batch_state(log, "rfm_bandit"))


def test_orphans_change_nothing_and_are_read_past(log: Log) -> None:
    learner = log.learner()
    log.store.insert([Feedback(feedback_id="f", decision_id="never", kind="click")])
    update = learner.poll()
    assert update is not None
    assert (update.learned_through, update.impressions) == (1, {})
    assert learner.poll() is None


@pytest.mark.heavy
def test_a_long_log_is_read_abreast(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebuilding needs memory for the open decisions of a moment, not for the log, and learns the same."""
    live(log, log.learner())
    for minute in range(30):
        for decision in log.decide(4, seed=100 + minute):
            for kind in ("view", "click", "purchase"):
                log.report(decision, kind)
        log.clock.advance(60)
    monkeypatch.setattr("rl.online.reading.MAX_ROWS", 10)
    learner, most = log.learner(), 0
    while not learner.caught_up:
        learner.poll()
        most = max(most, learner.waiting)
    assert most < 60 < len(log.store.decisions())
    for name in LEARNING:
        assert_same_state(state(learner, name), batch_state(log, name))


def test_a_slate_on_which_the_rules_left_nothing_stops_nothing(log: Log) -> None:
    learner, rules = log.learner(), Rules(caps={"red": 0}, categories={"20001": ("red",)})
    one = Visit(None, log.clock.now, ["20001"], decision_id="empty", k=4, policy=LEARNING[0], rules=rules)
    left = make(log.artefacts(), {LEARNING[0]: 1.0}).decide(one)
    assert left.slate == ()
    log.store.insert([left])
    log.clock.advance(61)
    learner.catch_up()
    [decision] = log.decide(1, seed=1)
    log.report(decision, "click")
    learner.catch_up()
    assert_same_state(state(learner, decision.policy), batch_state(log, decision.policy))
