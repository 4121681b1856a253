"""Histories of the service are those of the simulators."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rl.artefacts.artefact import Artefact, load_served, save
from rl.artefacts.description import TrainedIn
from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.visit import Visit
from rl.online.history.histories import Histories, to_outcome
from rl.policies import TransformerConfig, build
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.arrays import IntArray
from rl.policy.queries import CLICK, IGNORED, OUTCOME, PURCHASE, SHOWN, VIEW, Query
from rl.simulators.batched import BatchedEnv
from rl.simulators.shop.plus import ShopPlus
from rl.simulators.shop.shop import STEPS, Shop
from rl.training.run.environments import describe_observations
from tests.support.clocks import NOON

CONFIG = TransformerConfig(network=QNetworkConfig(width=16))
ABC = CatalogueEncoder(("a", "b", "c"))


def entries(histories: Histories, user: str | None = "ann", encoder: VisitEncoder = ABC) -> list[list[int]]:
    """Return the entries that are no padding."""
    history = histories.encode(user, encoder)
    assert history.shape == (histories.length, 3)
    padding = (history == 0).all(axis=1)
    assert padding[: padding.sum()].all()  # on the left alone
    return history[~padding].tolist()  # type: ignore[no-any-return]


def clicks(history: IntArray, info: dict[str, np.ndarray], rewards: np.ndarray) -> list[tuple[str, float]]:
    return [("click", reward) for reward in rewards]


def kinds(history: IntArray, info: dict[str, np.ndarray], rewards: np.ndarray) -> list[tuple[str, float]]:
    named = {IGNORED: ("reject", 1.0), VIEW: ("view", 1.0), CLICK: ("click", 1.0), PURCHASE: ("purchase", 1.0)}
    return [named[outcome] for outcome in info["outcome"]]


@pytest.mark.parametrize(("env", "report"), [(Shop(8), clicks), (ShopPlus(8), kinds)], ids=["shop", "shop_plus"])
def test_they_are_what_the_simulator_shows(env: BatchedEnv, report: Callable[..., list[tuple[str, float]]]) -> None:
    encoder, rng, histories = CatalogueEncoder.numbered(10), np.random.default_rng(0), Histories(STEPS)
    observation, _ = env.reset(seed=1)
    for step in range(STEPS - 1):
        actions = rng.integers(10, size=8)
        observation, rewards, _, _, info = env.step(actions)
        for row, (kind, value) in enumerate(report(observation["history"], info, rewards)):
            histories.add_slate(f"u{row}", f"{row}.{step}", [str(actions[row] + 1)])
            outcome = to_outcome(kind, value)
            assert outcome is not None
            assert histories.add_outcome(f"{row}.{step}", None, outcome)
        shown = np.stack([histories.encode(f"u{row}", encoder) for row in range(8)])
        np.testing.assert_array_equal(shown, observation["history"])


@pytest.mark.heavy
def test_a_served_policy_decides_what_it_decides_in_the_simulator(tmp_path: Path) -> None:
    env, rng = Shop(32), np.random.default_rng(2)
    policy = build(CONFIG, 0, 1, np.zeros(11))
    where = TrainedIn(name="raycommend/Shop-v0")
    save(
        Artefact(name="net", config=CONFIG, policy=policy, environment=where, **describe_observations(env)),
        tmp_path / "net",
    )
    served = load_served(tmp_path / "net")
    histories, twin = Histories(served.history), Shop(32)
    observation, _ = env.reset(seed=5)
    twin.reset(seed=5)
    earned = np.zeros((2, 32))
    for step in range(2 * STEPS):  # two episodes, each of a user of its own
        users = [f"{row}.{step // STEPS}" for row in range(32)]
        shown = [histories.encode(user, served.encoder) for user in users]
        visits = [Visit(user, NOON, served.encoder.items, history=h) for user, h in zip(users, shown, strict=True)]
        seed = int(rng.integers(2**31))
        wanted = policy.decide(Query.of(observation), 1, np.random.default_rng(seed)).positions[:, 0]
        actions = served.policy.decide(served.encoder.query(visits), 1, np.random.default_rng(seed)).positions[:, 0]
        np.testing.assert_array_equal(actions, wanted)
        observation, simulated, *_ = env.step(wanted)
        rewards = twin.step(actions)[1]
        earned += simulated, rewards
        for row, user in enumerate(users):
            histories.add_slate(user, f"{user}.{step}", [served.encoder.items[actions[row]]])
            histories.add_outcome(f"{user}.{step}", None, CLICK if rewards[row] else IGNORED)
    np.testing.assert_array_equal(earned[0], earned[1])
    assert earned.mean() > 2 * 2.0  # it does play: over two episodes a random policy earns 6.4


def test_a_slates_slots_are_entries_of_one_age() -> None:
    histories = Histories(5)
    histories.add_slate("ann", "1", ["b"])
    histories.add_slate("ann", "2", ["a", "c"])
    histories.add_slate("bob", "3", ["c"])
    assert entries(histories) == [[2, SHOWN, 2], [1, SHOWN, 1], [3, SHOWN, 1]]
    assert entries(histories, "bob") == [[3, SHOWN, 1]]
    assert entries(histories, None) == entries(histories, "zoe") == []


def test_of_a_decision_that_does_not_fit_the_first_slots_are_kept() -> None:
    histories = Histories(3)
    histories.add_slate("ann", "1", ["b", "c"])
    histories.add_slate("ann", "2", ["a", "b"])
    assert entries(histories) == [[2, SHOWN, 2], [1, SHOWN, 1], [2, SHOWN, 1]]
    histories.add_slate("ann", "3", ["a", "b", "c", "a"])
    assert entries(histories) == [[1, SHOWN, 1], [2, SHOWN, 1], [3, SHOWN, 1]]
    assert not histories.add_outcome("2", "a", CLICK)  # no entry of it is left


def test_the_strongest_outcome_is_kept_in_any_order() -> None:
    for order in ([CLICK, PURCHASE, VIEW], [PURCHASE, VIEW, CLICK]):
        histories = Histories()
        histories.add_slate("ann", "1", ["a", "b"])
        assert all(histories.add_outcome("1", "b", outcome) for outcome in order)
        assert entries(histories) == [[1, IGNORED, 1], [2, PURCHASE, 1]]


def test_once_he_has_answered_the_other_slots_are_ignored() -> None:
    histories = Histories()
    for decision in ("1", "2"):
        histories.add_slate("ann", decision, ["a", "b"])
    assert histories.add_outcome("1", None, VIEW)
    assert [entry[OUTCOME] for entry in entries(histories)] == [VIEW, IGNORED, SHOWN, SHOWN]
    assert histories.close("2")
    assert [entry[OUTCOME] for entry in entries(histories)] == [VIEW, IGNORED, IGNORED, IGNORED]


def test_feedback_that_belongs_to_nothing_changes_nothing() -> None:
    histories = Histories()
    histories.add_slate("ann", "1", ["a"])
    assert not histories.add_outcome("9", "a", CLICK)
    assert not histories.add_outcome("1", "b", CLICK)
    assert not histories.close("9")
    histories.add_slate("ann", "1", ["a"])  # again, by a retry
    assert entries(histories) == [[1, SHOWN, 1]]


def test_an_unknown_item_is_an_entry_all_the_same() -> None:
    histories = Histories()
    histories.add_slate("ann", "1", ["new"])
    histories.add_outcome("1", "new", CLICK)
    assert entries(histories) == [[0, CLICK, 1]]


@pytest.mark.parametrize(
    ("kind", "value", "outcome"),
    [
        ("view", 1.0, VIEW),
        ("dwell", 12.5, VIEW),
        ("rating", 4.0, VIEW),
        ("click", 1.0, CLICK),
        ("click", 0.0, IGNORED),
        ("accept", 1.0, CLICK),
        ("purchase", 3.0, PURCHASE),
        ("purchase", -1.0, IGNORED),
        ("reject", 1.0, IGNORED),
        ("custom", 1.0, None),
        ("custom", 0.0, None),
    ],
)
def test_what_a_kind_of_feedback_says(kind: str, value: float, outcome: int | None) -> None:
    assert to_outcome(kind, value) == outcome


def test_who_was_shown_something_longest_ago_is_forgotten_first() -> None:
    histories = Histories(max_users=2)
    histories.add_slate("ann", "1", ["a"])
    histories.add_slate("bob", "2", ["a"])
    histories.add_outcome("2", "a", CLICK)
    histories.add_slate("ann", "3", ["b"])
    histories.add_outcome("2", "a", PURCHASE)  # not a decision: bob is still the one
    histories.add_slate("cat", "4", ["a"])
    assert [bool(entries(histories, user)) for user in ("ann", "bob", "cat")] == [True, False, True]
    assert len(histories) == 2
    assert not histories.add_outcome("2", "a", CLICK)


def test_memory_is_bounded() -> None:
    histories = Histories(4, max_users=3)
    for number in range(1_000):
        histories.add_slate(f"u{number % 7}", str(number), ["a"] * (1 + number % 6))
    assert len(histories) == 3
    assert len(histories._users) == sum(len(shown) for shown in histories._slates.values()) <= 12


def test_a_forgotten_user_has_no_past() -> None:
    histories = Histories()
    histories.add_slate("ann", "1", ["a"])
    histories.forget("ann")
    histories.forget("ann")
    assert entries(histories) == []
    assert not histories.add_outcome("1", "a", CLICK)
    histories.add_slate("ann", "1", ["b"])
    assert entries(histories) == [[2, SHOWN, 1]]


@pytest.mark.parametrize("copied", [Histories.copy, lambda h: pickle.loads(pickle.dumps(h))], ids=["copy", "pickle"])
def test_a_copy_goes_its_own_way(copied: Callable[[Histories], Histories]) -> None:
    histories = Histories()
    histories.add_slate("ann", "1", ["a"])
    copy = copied(histories)
    copy.add_outcome("1", "a", CLICK)
    copy.add_slate("ann", "2", ["b"])
    assert entries(histories) == [[1, SHOWN, 1]]
    assert entries(copy) == [[1, CLICK, 2], [2, SHOWN, 1]]
    histories.forget("ann")
    assert len(entries(copy)) == 2


@pytest.mark.parametrize("arguments", [(0,), (20, 0)])
def test_sizes_below_one_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Histories(*arguments)
