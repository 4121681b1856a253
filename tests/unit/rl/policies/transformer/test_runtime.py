"""The quick policy of a Q network answers as torch does, and always with the same bits."""

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.schema import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.shelf import keep
from rl.encoders.catalogue import CatalogueEncoder
from rl.policies import (
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
    build,
    quick,
)
from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork
from rl.policies.transformer.policy import TransformerPolicy
from rl.policies.transformer.runtime import QuickTransformer
from rl.policy.errors import PolicyError
from rl.policy.explorers import EpsilonGreedy, Softmax
from rl.policy.queries import N_OUTCOMES, Query

ITEMS, F = 9, 4


def trained(features: int = 0, **shape: Any) -> TransformerPolicy:
    """A policy none of whose weights is what it was initialised with."""
    torch.manual_seed(3)
    network = QNetwork(QNetworkConfig(width=8, **shape), ITEMS, features).eval()
    for parameter in network.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return TransformerPolicy(network, EpsilonGreedy(epsilon=0.2))


def asked(b: int, a: int, t: int, features: int = 0, alike: bool = False, seed: int = 0) -> Query:
    """Random requests: some items unknown, histories of different lengths, padded on the left."""
    rng = np.random.default_rng(seed)
    age = np.arange(t, 0, -1) * (np.arange(t) >= rng.integers(t + 1, size=(b, 1)))
    history = np.stack([rng.integers(ITEMS + 3, size=(b, t)), rng.integers(N_OUTCOMES, size=(b, t)), age], axis=2)
    mask = rng.random((b, a)) < 0.7
    mask[:, 0] = True
    return Query(
        rng.normal(size=(b, 1 if alike else a, features)),
        np.zeros(b, dtype=np.int64),
        rng.integers(ITEMS + 3, size=(b, a)),
        mask,
        history * (age > 0)[:, :, None],
    )


def of_row(query: Query, row: int, padding: int = 0) -> Query:
    """Return one request, its history with more padding."""
    assert query.history is not None
    history = np.concatenate([np.zeros((padding, 3), dtype=np.int64), query.history[row]])
    one = slice(row, row + 1)
    return Query(query.features[one], query.state[one], query.items[one], query.mask[one], history[None])


@pytest.mark.parametrize("features", [0, F], ids=["ids", "features"])
@pytest.mark.parametrize(
    "shape",
    [{}, {"heads": 2, "layers": 2}, {"layers": 0}, {"dueling": False, "oldest": 5}, {"heads": 4, "dueling": False}],
    ids=str,
)
def test_it_answers_as_torch_does(shape: dict[str, Any], features: int) -> None:
    policy = trained(features, **shape)
    fast = QuickTransformer(policy)
    for b, a, t in ((1, 1, 1), (1, 50, 20), (3, 7, 40), (2, 1, 3)):
        for alike in (False, True):
            query = asked(b, a, t, features, alike)
            np.testing.assert_allclose(fast.expected(query), policy.expected(query), rtol=0, atol=1e-5)


def test_without_a_history_it_answers_as_torch_does() -> None:
    policy, query = trained(), asked(2, 5, 3)
    without = Query(query.features, query.state, query.items, query.mask)
    np.testing.assert_allclose(QuickTransformer(policy).expected(without), policy.expected(without), rtol=0, atol=1e-5)


def test_the_same_request_has_the_same_bits_in_any_company() -> None:
    fast, query = QuickTransformer(trained(F)), asked(16, 50, 20, F)
    together = fast.expected(query)
    again = pickle.loads(pickle.dumps(fast))
    for row in range(16):
        for padding in (0, 13):
            np.testing.assert_array_equal(fast.expected(of_row(query, row, padding))[0], together[row])
        np.testing.assert_array_equal(again.expected(of_row(query, row))[0], together[row])


def test_a_copy_answers_the_same_and_has_the_same_weights() -> None:
    fast, query = QuickTransformer(trained()), asked(2, 5, 3)
    copied = deepcopy(fast)
    np.testing.assert_array_equal(copied.expected(query), fast.expected(query))
    for name, array in fast.state_dict().items():
        np.testing.assert_array_equal(copied.state_dict()[name], array)


def test_other_weights_are_taken_over() -> None:
    fast, other, query = QuickTransformer(trained()), trained(), asked(2, 5, 3)
    for parameter in other.network.parameters():
        parameter.data.mul_(0.5)
    before = fast.expected(query)
    fast.load_state_dict(other.state_dict())
    np.testing.assert_allclose(fast.expected(query), other.expected(query), rtol=0, atol=1e-5)
    assert np.abs(fast.expected(query) - before).max() > 1e-3


def test_it_decides_by_the_same_explorer() -> None:
    policy = TransformerPolicy(trained().network, Softmax(temperature=0.5))
    query, fast = asked(4, 6, 5), QuickTransformer(policy)
    of_torch, of_fast = (p.distribution(query, np.random.default_rng(0)) for p in (policy, fast))
    np.testing.assert_allclose(of_fast, of_torch, rtol=0, atol=1e-5)
    slates = fast.decide(query, 1, np.random.default_rng(0))
    np.testing.assert_allclose(slates.propensities[:, 0], of_fast[np.arange(4), slates.positions[:, 0]], rtol=1e-12)


def test_other_features_than_it_was_trained_with_are_refused() -> None:
    with pytest.raises(PolicyError, match="a query has 3 features, this network was trained with 4"):
        QuickTransformer(trained(F)).expected(asked(1, 2, 1, 3))


def test_a_network_that_is_computed_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.policies.transformer.graph.EPSILON", 0.1)
    with pytest.raises(PolicyError, match="onnxruntime differs from torch by"):
        QuickTransformer(trained())
    broken = trained()
    list(broken.network.head.parameters())[-1].data[:] = float("nan")
    with pytest.raises(PolicyError, match="differs from torch by nan"):
        QuickTransformer(broken)


def test_the_service_answers_by_it(tmp_path: Path) -> None:
    config = TransformerConfig(network=QNetworkConfig(width=8))
    encoder = CatalogueEncoder(tuple("abcdefghi"))
    save(Artefact("net", config, trained(), encoder, RewardSpec(), {}, history=5), tmp_path / "net")
    kept = keep(tmp_path / "net", Settings(home=tmp_path))
    assert isinstance(kept.policy, QuickTransformer)
    query = asked(2, 5, 3)
    np.testing.assert_allclose(kept.policy.expected(query), trained().expected(query), rtol=0, atol=1e-5)


def test_only_q_networks_have_a_quick_policy() -> None:
    config = TransformerConfig(network=QNetworkConfig(width=8))
    assert isinstance(quick(build(config, 0, 1, np.zeros(4)), config), QuickTransformer)
    others: list[RidgeConfig | SlateTransformerConfig] = [RidgeConfig(), SlateTransformerConfig()]
    for other in others:
        policy = build(other, 2, 1, np.zeros(4))
        assert quick(policy, other) is policy
