"""Who learns from whose decisions while A/B tests run: isolated, shared, apprentices, those in the shadow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.attribution.join import Outcome
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from rl.encoders.visit import Visit
from rl.online.fold import FoldSpec
from rl.online.imitation import imitate
from rl.online.learner import OnlineLearner
from rl.online.observe import own_slots
from tests.support.clocks import NOON, Clock
from tests.support.records import decision
from tests.support.shops import small_market, untrained

ITEMS = small_market()[1].items[:6]


def exposure(name: str, policy: str, **fields: Any) -> Any:
    usual = {"candidates": ITEMS, "slate": tuple(ITEMS[:2]), "propensities": (0.5, 0.5), "scores": (0.0, 0.0)}
    return decision(name, policy=policy, **usual | fields)


@pytest.mark.parametrize(
    ("spec", "learned"),
    [
        ({}, {"a": {"a1", "a2", "ab"}, "b": {"b1", "b2", "ab"}}),
        ({"learn_from": "all"}, {name: {"a1", "a2", "b1", "b2", "ab", "plain"} for name in "ab"}),
        ({"shared": {"t": ("a", "b")}}, {"a": {"a1", "a2", "b1", "ab"}, "b": {"a1", "b1", "b2", "ab"}}),
        (
            {"learn_from": "all", "isolated": ("t",)},
            {"a": {"a1", "a2", "b2", "ab", "plain"}, "b": {"a2", "b1", "b2", "ab", "plain"}},
        ),
        ({"follows": {"b": "a"}}, {"a": {"a1", "a2", "ab"}, "b": {"a1", "a2", "b1", "b2", "ab"}}),
        ({"imitates": {"b": "a"}}, {"a": {"a1", "a2", "ab"}, "b": {"a1", "a2"}}),
    ],
)
def test_what_each_learns_from(spec: dict[str, Any], learned: dict[str, set[str]]) -> None:
    log = {
        "a1": exposure("a1", "a", abtest="t", variant="old"),
        "b1": exposure("b1", "b", abtest="t", variant="new"),
        "a2": exposure("a2", "a"),
        "b2": exposure("b2", "b"),
        "ab": exposure("ab", "a+b", abtest="t", teams=("b", "a")),
        "plain": exposure("plain", "other"),
    }
    fold = FoldSpec.model_validate(spec)
    for policy, names in learned.items():
        assert {name for name, one in log.items() if fold.lesson_of(policy, one)} == names


def test_what_no_test_says_is_not_in_the_specification_of_a_fold() -> None:
    before = {"loop", "objective", "reward", "learn_from"}
    assert FoldSpec().model_dump(mode="json").keys() == before
    of_test = FoldSpec(shared={"t": ("a", "b")}, imitates={"c": "a"})
    said = of_test.model_dump(mode="json")
    assert said.keys() == before | {"shared", "imitates"}
    assert FoldSpec.model_validate(said) == of_test


def test_of_a_slate_of_two_each_learns_its_own_slots(tmp_path: Path) -> None:
    clock = Clock()
    spec = FoldSpec(reward=RewardSpec(wait_s=60.0))
    encoder = small_market()[1]
    stores = [Store.open(f"sqlite:///{tmp_path}/{name}.db", clock) for name in ("two", "one")]
    both = exposure("d", "a+b", slate=tuple(ITEMS[:3]), propensities=(0.5,) * 3, scores=(0.0,) * 3)
    together = both.model_copy(update={"abtest": "t", "teams": ("a", "b", "a")})
    alone = both.model_copy(update={"policy": "a", "slate": (ITEMS[0], ITEMS[2])})
    alone = alone.model_copy(update={"propensities": (0.5, 0.5), "scores": (0.0, 0.0)})
    states = []
    for store, made in zip(stores, (together, alone), strict=True):
        artefacts, clock.now = {name: untrained(encoder, "linear_thompson") for name in ("a", "b")}, NOON
        learner = OnlineLearner(store, artefacts, spec, clock)
        store.insert([made])
        for number, item in enumerate(ITEMS[:3]):
            report = Feedback(feedback_id=f"f{number}", decision_id="d", item_id=item, kind="click", value=number + 1)
            store.insert([report])
            learner.poll()
        clock.advance(100)
        learner.poll()
        states.append((artefacts["a"].policy.state_dict(), artefacts["b"].policy.state_dict()))
        store.close()
    for name, array in states[0][0].items():
        np.testing.assert_allclose(array, states[1][0][name], atol=1e-12)
    assert any(not np.array_equal(array, states[1][1][name]) for name, array in states[0][1].items())


def test_a_team_that_was_not_seen_has_nothing_to_learn() -> None:
    made = exposure("d", "a+b", teams=("a", "b"))
    seen = Outcome(made, (1.0,), 1.0, True, True)
    assert own_slots("b", seen, None) is None
    assert own_slots("a", seen, (1.0,)) is None
    learned = own_slots("a", seen, None)
    assert learned is not None
    assert (learned[0].decision.slate, learned[0].rewards, learned[1]) == ((ITEMS[0],), (1.0,), None)


def test_an_apprentice_comes_to_show_what_the_other_shows(tmp_path: Path) -> None:
    # The other shows one of two of six items, another one to every other customer. Nothing here is random.
    encoder, clock = small_market()[1], Clock()
    users = encoder.users[:6]
    with_store = Store.open(f"sqlite:///{tmp_path}/store.db", clock)
    artefact = untrained(encoder, "linear_thompson")
    spec = FoldSpec(reward=RewardSpec(wait_s=1.0), imitates={"pupil": "master"})
    learner = OnlineLearner(with_store, {"pupil": artefact, "master": untrained(encoder, "random")}, spec, clock)
    made = [
        exposure(f"d{n}", "master", user_id=users[n % 6], slate=(ITEMS[n % 6 % 2],), propensities=(1.0,), scores=(0.0,))
        for n in range(240)
    ]
    with_store.insert(made)
    clock.advance(100)
    learner.catch_up()
    with_store.close()
    visits = [Visit(user, NOON, ITEMS) for user in users]
    expected = artefact.policy.expected(encoder.query(visits))
    assert expected.argmax(axis=1).tolist() == [0, 1] * 3


def test_others_stand_for_all_that_were_not_shown() -> None:
    encoder = small_market()[1]
    made = exposure("d", "p", candidates=encoder.items, slate=(encoder.items[3],), propensities=(1.0,), scores=(0.0,))
    outcome = Outcome(made, (5.0,), 5.0, True, True)
    learned = imitate([(outcome, None)], encoder)
    assert learned.rewards.tolist() == [1.0] + [0.0] * 8
    assert learned.counts.sum() == pytest.approx(len(encoder.items))
    again = imitate([(outcome, None)], encoder)
    assert np.array_equal(learned.items, again.items)
