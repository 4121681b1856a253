"""How propensities came about: the parts of each explorer add up to its probabilities, and known slates are known."""

import numpy as np
import pytest

from rl.policy.explanation.propensity import explain_draft, explain_slots
from rl.policy.explorers import BaseExplorer, EpsilonGreedy, Softmax, SquareCB, Uniform, Votes, WithUniform
from rl.policy.interface import Explorer

ALL: tuple[Explorer, ...] = (
    *(explorer() for explorer in (Uniform, EpsilonGreedy, Softmax, SquareCB, Votes)),
    WithUniform(Votes(floor=0.1), 0.2),
    WithUniform(Softmax(), 0.2),
)


@pytest.mark.parametrize("explorer", ALL, ids=lambda explorer: type(explorer).__name__)
def test_parts_add_up_to_probabilities(explorer: Explorer) -> None:
    rng = np.random.default_rng(0)
    scores, mask = rng.standard_normal((5, 8, 6)), rng.random((5, 6)) < 0.7
    mask[:, 0] = True
    total = sum(explorer.parts(scores, mask).values())
    np.testing.assert_allclose(total, explorer.probabilities(scores, mask), atol=1e-15)


def test_an_epsilon_greedy_slate_by_hand() -> None:
    scores, mask = np.array([[[3.0, 2.0, 1.0, 9.0]]]), np.array([[True, True, True, False]])
    explorer: BaseExplorer = EpsilonGreedy(epsilon=0.3)
    first, second = explain_slots(lambda left: explorer.parts(scores, left), scores[:, 0], mask, [2, 0])
    assert first.parts == {"uniform": pytest.approx(0.1)}
    assert first.uniform == pytest.approx(0.1)
    assert (first.candidates, first.best) == (3, False)
    assert second.parts == {"uniform": pytest.approx(0.15), "best": pytest.approx(0.7)}
    assert (second.candidates, second.best, second.kept_out) == (2, True, ())


def test_what_a_constraint_keeps_out_is_listed() -> None:
    scores, mask = np.array([[[3.0, 2.0, 1.0]]]), np.ones((1, 3), np.bool_)
    explorer = EpsilonGreedy(epsilon=0.0)
    [only] = explain_slots(
        lambda left: explorer.parts(scores, left),
        scores[:, 0],
        mask,
        [1],
        lambda left, slot, chosen: left & [[False, True, True]],
    )
    assert (only.parts, only.candidates, only.best, only.kept_out) == ({"best": 1.0}, 2, True, (0,))


def test_a_draft_by_hand() -> None:
    """Policy a always takes 0, then 1; b draws uniformly. Slot 0: item 0 with (1 + 1/3) / 2."""
    scores, mask = np.array([[[3.0, 2.0, 1.0]]]), np.ones((1, 3), np.bool_)
    best, uniform = EpsilonGreedy(epsilon=0.0), Uniform()
    parts = {"a": lambda left: best.parts(scores, left), "b": lambda left: uniform.parts(scores, left)}
    expected = {"a": scores[:, 0], "b": scores[:, 0]}
    first, second = explain_draft(parts, expected, mask, [0, 2], ["a", "b"])
    assert first.parts == {"a: best": 0.5, "b: uniform": pytest.approx(1 / 6)}
    assert first.uniform == pytest.approx(1 / 6)
    # a has chosen the first with probability 3/4, so b chooses the second with 3/4: among two items.
    assert second.parts == {"b: uniform": pytest.approx(3 / 8)}
