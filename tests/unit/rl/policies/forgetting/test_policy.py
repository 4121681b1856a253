"""A policy that forgets: each window is a policy that saw nothing else, and the one that predicts best answers."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from data.features.rfm import N_STATES
from data.schema import Features
from rl.encoders.visit import Visit
from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    OnlinePolicyConfig,
    RFMBanditConfig,
    RidgeConfig,
    build,
)
from rl.policies.forgetting.config import Forgetting
from rl.policies.forgetting.policy import ForgettingPolicy
from rl.policies.forgetting.windows import kept
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query, Slates
from tests.support.described import ENCODER, TIME

FORGETTING = Forgetting(shortest=16, rates=2)
F, N, LAST = 3, 5, 150
CONFIGS: list[OnlinePolicyConfig] = [
    LinearThompsonConfig(models="per_item", forgetting=FORGETTING),
    LinUCBConfig(noise_sd=0.5, forgetting=FORGETTING),
    RidgeConfig(forgetting=FORGETTING),
    RFMBanditConfig(forgetting=FORGETTING),
    CrossedConfig(forgetting=FORGETTING),
]
OF_EVERY_KIND = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)


def make(config: OnlinePolicyConfig) -> ForgettingPolicy:
    policy = build(config, F, N_STATES, np.zeros(N + 1))
    assert isinstance(policy, ForgettingPolicy)
    return policy


def remembering(config: OnlinePolicyConfig) -> Policy:
    return build(config.model_copy(update={"forgetting": None}), F, N_STATES, np.zeros(N + 1))


def impressions(config: OnlinePolicyConfig, n: int = LAST, seed: int = 0) -> Impressions:
    """Rewards at positions 1 to n, one a position."""
    rng = np.random.default_rng(seed)
    rewards, at = rng.choice([0.0, 1.0, 3.0], n), np.arange(1.0, n + 1.0)
    if isinstance(config, CrossedConfig):
        query = ENCODER.query([visit(rng) for _ in range(n)])
        shown = rng.integers(3, size=(n, 1))
        slates = Slates(shown, np.ones((n, 1)), np.zeros((n, 1)))
        return replace(Impressions.of_slates(query, slates, rewards[:, None]), at=at)
    items, states = rng.integers(1, N + 1, size=n), rng.integers(N_STATES, size=n)
    return Impressions(rng.standard_normal((n, F)), states, items, rewards, np.ones(n), at=at)


def visit(rng: np.random.Generator) -> Visit:
    said = {"where": f"page{rng.integers(3)}", "hour": float(rng.integers(5))}
    features = Features(context=(said,), items=tuple(({"kind": kind},) for kind in "abc"))
    return Visit(None, TIME, ("a", "b", "c"), {}, features)


def arrays(policy: Policy, prefix: str = "") -> dict[str, FloatArray]:
    return {n.removeprefix(prefix): a for n, a in policy.state_dict().items() if n.startswith(prefix)}


def alike(config: OnlinePolicyConfig, policy: ForgettingPolicy, seen: Impressions) -> None:
    """Each window's sums are, but for rounding, those of a policy that was taught what is in the window alone."""
    position = int(seen.at.max())
    begins = kept(FORGETTING, position)
    for begin, prefix in zip(begins, ("whole_", "window0_", "window1_", "window2_", "window3_"), strict=False):
        alone = remembering(config)
        alone.update(seen.rows(seen.at >= begin))
        query = ask(config)
        other = remembering(config)
        other.load_state_dict(arrays(policy, prefix))
        np.testing.assert_allclose(other.expected(query), alone.expected(query), rtol=1e-8, atol=1e-8)


def ask(config: OnlinePolicyConfig) -> Query:
    rng = np.random.default_rng(9)
    if isinstance(config, CrossedConfig):
        return ENCODER.query([visit(rng) for _ in range(4)])
    items = np.tile(np.arange(1, N + 1), (4, 1))
    features = rng.standard_normal((4, N, F))
    return Query(features, rng.integers(N_STATES, size=4), items, np.ones((4, N), dtype=np.bool_))


@pytest.mark.heavy
@OF_EVERY_KIND
def test_each_window_has_learned_what_is_in_it_whatever_the_order(config: OnlinePolicyConfig) -> None:
    whole = impressions(config)
    rng = np.random.default_rng(1)
    shuffled = whole.rows(rng.permutation(len(whole)))
    for some in (whole, shuffled):
        for pieces in (1, 7, 40):
            policy = make(config)
            for rows in np.array_split(np.arange(len(some)), pieces):
                policy.update(some.rows(rows))
            alike(config, policy, whole)


@pytest.mark.heavy
@OF_EVERY_KIND
def test_a_late_correction_is_forgotten_with_its_decision(config: OnlinePolicyConfig) -> None:
    """Every third reward becomes another 60 positions later: the windows are as if it had been told at once."""
    final = impressions(config)
    late = np.arange(len(final)) % 3 == 0
    first = np.where(late, 0.0, final.rewards)
    policy = make(config)
    for start in range(0, LAST + 60, 10):
        new = (final.at > start) & (final.at <= start + 10)
        if new.any():
            policy.update(replace(final, rewards=first, squares=first**2).rows(new))
        told = late & (final.at > start - 60) & (final.at <= start - 50)
        if told.any():
            policy.update(replace(final, counts=np.zeros(LAST), squares=final.rewards**2).rows(told))
    alike(config, policy, final)


def test_windows_are_ridge_regressions_on_the_last_rows() -> None:
    """A second implementation: (I + Σφφᵀ)⁻¹Σrφ over the rows of each window, in numpy."""
    config = RidgeConfig(regularisation=1.0, forgetting=FORGETTING)
    seen, policy = impressions(config), make(config)
    for rows in np.array_split(np.arange(LAST), 12):
        policy.update(seen.rows(rows))
    # At 150 windows of 16 begin at 128 and 144, those of 64 at 64 and 128.
    for begin, prefix in ((0, "whole_"), (64, "window0_"), (128, "window1_"), (144, "window2_")):
        x, r = seen.features[seen.at >= begin], seen.rewards[seen.at >= begin]
        state = arrays(policy, prefix)
        np.testing.assert_allclose(state["A"], np.eye(F) + x.T @ x, rtol=1e-12)
        np.testing.assert_allclose(
            np.linalg.solve(state["A"], state["b"]), np.linalg.solve(np.eye(F) + x.T @ x, x.T @ r)
        )
    np.testing.assert_array_equal(arrays(policy)["begin"], [64.0, 128.0, 144.0, 0.0, 0.0])


def test_predictions_are_scored_by_hand() -> None:
    """Means of one item, shrunk by a prior of one impression; sums count half as much after 4 * 2 positions."""
    config = RidgeConfig(regularisation=1.0, forgetting=Forgetting(shortest=2, rates=1))
    policy, decay = build(config, 1, 1, np.zeros(2)), 2 ** (-1 / 8)
    rewards = [1.0, 1.0, 0.0, 0.0]
    for position, reward in enumerate(rewards, start=1):
        row = Impressions(np.ones((1, 1)), np.zeros(1, np.int64), np.ones(1, np.int64), np.array([reward]), np.ones(1))
        policy.update(replace(row, at=np.array([float(position)])))
    # Predicted before each: by all of the log, which answers, 0, 1/2, 2/3 and 1/2; by the window from 2 on, of the
    # third and fourth reward, 1/2 and 1/3, of which the second begins at 4 and has predicted nothing.
    e, errors = [1.0, 1 / 2, 2 / 3, 1 / 2], [(1 / 2) ** 2, (1 / 3) ** 2]
    evidence, over, among, scored = -np.log(1000.0), 0.0, 0.0, np.zeros(4)
    for position, reward in enumerate(rewards):
        scored = scored * decay + [1.0, reward, reward**2, e[position] ** 2]
        if position >= 2:
            own, differs = errors[position - 2], (e[position] - np.sqrt(errors[position - 2])) ** 2
            over, among = over * decay + differs * own, among * decay + differs
            variance = scored[2] / scored[0] - (scored[1] / scored[0]) ** 2
            noise = (max(scored[3], scored[0] * over / among) + variance) / (scored[0] + 1)
            evidence += np.log1p((e[position] ** 2 - own) / (2 * noise))
    state = policy.state_dict()
    assert state["begin"].tolist() == [2.0, 4.0, 0.0]
    np.testing.assert_allclose(state["evidence"], [0.0, evidence, -np.log(1000.0), 0.0], rtol=1e-12)
    np.testing.assert_allclose(state["noise"], [[0.0, over, 0.0, 0.0], [0.0, among, 0.0, 0.0]], rtol=1e-12)
    np.testing.assert_allclose(state["scored"], scored, rtol=1e-12)


@pytest.mark.heavy
@OF_EVERY_KIND
def test_it_goes_on_from_every_cut_bit_by_bit(config: OnlinePolicyConfig) -> None:
    seen, policy = impressions(config), make(config)
    cuts = []
    pieces = np.array_split(np.arange(LAST), 10)
    for rows in pieces:
        cuts.append(policy.state_dict())
        policy.update(seen.rows(rows))
    whole = policy.state_dict()
    for number, cut in enumerate(cuts):
        again = make(config)
        again.load_state_dict(cut)
        for rows in pieces[number:]:
            again.update(seen.rows(rows))
        state = again.state_dict()
        assert state.keys() == whole.keys()
        assert all(np.array_equal(state[name], whole[name]) for name in whole), f"cut {number}"


def test_impressions_without_positions_are_learned_as_they_come() -> None:
    config = RidgeConfig(forgetting=FORGETTING)
    seen, one, other = impressions(config), make(config), make(config)
    one.update(seen)
    other.update(replace(seen, at=np.full(LAST, np.nan)))
    for name, array in one.state_dict().items():
        wanted = array - [0.0, 1.0] if name == "position" else array  # by which clock
        np.testing.assert_array_equal(other.state_dict()[name], wanted)
    first = other.state_dict()["whole_A"]
    other.update(replace(seen, at=np.arange(1.0, LAST + 1.0)).rows(slice(20)))  # served: the log's clock begins
    state = other.state_dict()
    assert state["position"].tolist() == [20.0, 1.0]
    assert state["begin"].tolist() == [16.0, 0.0, 0.0, 0.0, 0.0]
    other.update(replace(seen, at=np.full(LAST, np.nan)))  # and stands still where nothing is of the log
    assert other.state_dict()["position"].tolist() == [20.0, 1.0]
    assert not np.array_equal(state["whole_A"], first)


def swapping(n: int, swap: int | None, noise: float, seed: int) -> Impressions:
    """Two items by turns, of which one earns 1 and the other 0 and that swap places, with noise."""
    rng = np.random.default_rng(seed)
    items = np.arange(n) % 2 + 1
    best = np.where(np.arange(n) < (n if swap is None else swap), 1, 2)
    rewards = (items == best) + noise * rng.standard_normal(n)
    return Impressions(np.ones((n, 1)), np.zeros(n, np.int64), items, rewards, np.ones(n), at=np.arange(1.0, n + 1.0))


@pytest.mark.heavy
def test_the_window_that_predicts_best_answers() -> None:
    """After a swap the shortest, then longer ones; where nothing changes the whole log, in each of 400 looks."""
    config = RidgeConfig(models="per_item", forgetting=Forgetting(shortest=32, rates=3))
    for swap in (None, 1_000):
        policy, answering = build(config, 1, 1, np.zeros(3)), list[int | None]()
        assert isinstance(policy, ForgettingPolicy)
        seen = swapping(2_000, swap, 0.5, seed=2)
        for start in range(0, 2_000, 5):
            policy.update(seen.rows(slice(start, start + 5)))
            answering.append(policy.window)
        if swap is None:
            assert set(answering) == {None}
        else:
            assert set(answering[:200]) == {None}
            found = [length for length in answering[230:] if length is not None]  # within 150 positions
            assert len(found) == len(answering[230:])
            # What answers then began after the swap, but for one that began up to 32 positions before.
            assert all(length <= 5 * (at - 200) + 32 + 5 for at, length in enumerate(found, start=230))
            assert max(found) > 500
            query = Query(np.ones((1, 1, 1)), np.zeros(1, np.int64), np.array([[1, 2]]), np.ones((1, 2), np.bool_))
            np.testing.assert_allclose(policy.expected(query), [[0.0, 1.0]], atol=0.2)
            assert policy._policies[0].expected(query)[0, 0] > 0.3  # the whole log has not got over it


@pytest.mark.heavy
def test_the_window_that_answers_is_kept() -> None:
    """After a change one that began soon after it, beyond the length at which it would be dropped, to the end."""
    n, swap, size, rng = 5_000, 1_000, 30, np.random.default_rng(0)
    config = RidgeConfig(forgetting=Forgetting(shortest=32, rates=3))
    features, weights = rng.standard_normal((n, size)), rng.standard_normal((2, size)) / np.sqrt(size)
    means = np.where(np.arange(n) < swap, features @ weights[0], features @ weights[1])
    rewards, ones = means + 0.5 * rng.standard_normal(n), np.ones(n, np.int64)
    seen = Impressions(features, 0 * ones, ones, rewards, np.ones(n), at=np.arange(1.0, n + 1.0))
    policy, answering = build(config, size, 1, np.zeros(2)), dict[int, int | None]()
    assert isinstance(policy, ForgettingPolicy)
    for start in range(0, n, 8):
        policy.update(seen.rows(slice(start, start + 8)))
        answering[start + 8] = policy.window
    assert {window for position, window in answering.items() if position <= swap} == {None}
    begins = {position - (window or 0) + 1 for position, window in answering.items() if position > 1_500}
    assert len(begins) == 1
    assert 1_000 - 32 <= begins.pop() <= 1_000 + 64
    again = build(config, size, 1, np.zeros(2))
    again.load_state_dict(policy.state_dict())
    assert isinstance(again, ForgettingPolicy)
    assert again.window == policy.window


def test_rows_that_come_together_are_judged_together() -> None:
    """Misses of a while ago come before hits of now: a window that has just begun predicts all of the misses best."""
    rng, config = np.random.default_rng(0), RidgeConfig(forgetting=Forgetting(shortest=32, rates=2))
    policy = build(config, 1, 1, np.zeros(2))
    assert isinstance(policy, ForgettingPolicy)

    def learn(rewards: FloatArray, first: int) -> None:
        n = len(rewards)
        ones, at = np.ones(n, np.int64), np.arange(first, first + n, dtype=np.float64)
        policy.update(Impressions(np.ones((n, 1)), 0 * ones, ones, rewards, np.ones(n), at=at))

    for first in range(1, 2_001, 20):
        learn(np.where(rng.random(20) < 0.2, 10.0 if first <= 600 else 1.0, 0.0), first)
    assert policy.window is not None
    began = 2_000 - policy.window + 1
    assert 600 <= began <= 700
    learn(np.repeat([0.0, 1.0], [320, 80]), 2_001)
    assert 2_400 - policy.window + 1 == began


def test_an_update_is_judged_whole_however_large_it_is() -> None:
    """After an outage it is of 16,000 misses and then 4,000 hits: a fifth, as before."""
    policy, rng = build(RidgeConfig(forgetting=Forgetting()), 1, 1, np.zeros(2)), np.random.default_rng(0)
    assert isinstance(policy, ForgettingPolicy)

    def learn(rewards: FloatArray, first: int) -> None:
        ones, at = np.ones(len(rewards), np.int64), np.arange(float(first), first + len(rewards))
        policy.update(Impressions(np.ones((len(at), 1)), 0 * ones, ones, rewards, np.ones(len(at)), at=at))

    for first in range(1, 2_001, 20):
        learn((rng.random(20) < 0.2).astype(np.float64), first)
    learn(np.repeat([0.0, 1.0], [16_000, 4_000]), 2_001)
    assert policy.window is None
    assert policy.expected(one_item())[0, 0] == pytest.approx(0.2, abs=0.01)


def one_item() -> Query:
    return Query(np.ones((1, 1, 1)), np.zeros(1, np.int64), np.ones((1, 1), np.int64), np.ones((1, 1), np.bool_))


def test_the_whole_log_answers_when_its_clock_begins() -> None:
    """What a simulator has taught begins at no position of the log."""
    seen = swapping(400, 200, 0.1, seed=0)
    policy = build(RidgeConfig(models="per_item", forgetting=Forgetting(shortest=16, rates=2)), 1, 1, np.zeros(3))
    assert isinstance(policy, ForgettingPolicy)
    for start in range(0, 400, 5):
        policy.update(replace(seen, at=np.full(400, np.nan)).rows(slice(start, start + 5)))
    before = policy.window
    policy.update(seen.rows(slice(0, 5)))
    assert before is not None
    assert policy.window is None
    assert policy.state_dict()["begin"].tolist() == [0.0] * 5


def test_a_state_with_windows_that_cannot_be_is_refused() -> None:
    config = RidgeConfig(forgetting=FORGETTING)
    policy = make(config)
    policy.update(impressions(config))
    state = policy.state_dict()
    with pytest.raises(PolicyError, match="windows from"):
        make(config).load_state_dict(state | {"position": np.array([500.0, 1.0])})
    for begins in ([128.0, 64.0, 144.0, 0.0, 0.0], [32.0, 48.0, 64.0, 128.0, 144.0]):  # no order; two that are kept
        with pytest.raises(PolicyError, match="windows from"):
            make(config).load_state_dict(state | {"begin": np.array(begins)})
    with pytest.raises(PolicyError, match=r"arrays window1_\*, of the window from 128: .*'b'"):
        make(config).load_state_dict({name: array for name, array in state.items() if name != "window1_b"})
    with pytest.raises(PolicyError, match="evidence"):
        make(config).load_state_dict({name: array for name, array in state.items() if name != "evidence"})


def test_the_head_of_a_network_does_not_forget_by_itself() -> None:
    with pytest.raises(ValidationError, match="capacity"):
        NeuralLinearConfig(head=RidgeConfig(forgetting=FORGETTING))
