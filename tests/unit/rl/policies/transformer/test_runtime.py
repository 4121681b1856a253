"""The graph of a Q network answers as torch does, and always with the same bits."""

import pickle
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import shelve
from rl.encoders.catalogue import CatalogueEncoder
from rl.policies import TransformerConfig
from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork
from rl.policies.transformer.policy import TransformerPolicy
from rl.policies.transformer.runtime import GraphPolicy
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


def served(policy: TransformerPolicy) -> GraphPolicy:
    """Return the policy that answers by the graph of another."""
    return GraphPolicy(policy.export_graph(), policy.explorer, policy.state_dict())


@pytest.fixture(scope="module")
def graph() -> GraphPolicy:
    """That of `trained()`: an export takes seconds."""
    return served(trained())


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "features"),
    [({}, F), ({"heads": 2, "layers": 2}, 0), ({"layers": 0, "oldest": 5}, 0), ({"heads": 4, "dueling": False}, F)],
    ids=str,
)
def test_it_answers_as_torch_does(shape: dict[str, Any], features: int) -> None:
    policy = trained(features, **shape)
    fast = served(policy)
    for b, a, t in ((1, 1, 1), (1, 50, 20), (3, 7, 40), (2, 1, 3)):
        for alike in (False, True):
            query = asked(b, a, t, features, alike)
            np.testing.assert_allclose(fast.expected(query), policy.expected(query), rtol=0, atol=1e-5)


@pytest.mark.heavy
def test_without_a_history_it_answers_as_torch_does(graph: GraphPolicy) -> None:
    policy, query = trained(), asked(2, 5, 3)
    without = Query(query.features, query.state, query.items, query.mask)
    np.testing.assert_allclose(graph.expected(without), policy.expected(without), rtol=0, atol=1e-5)


@pytest.mark.heavy
def test_the_same_request_has_the_same_bits_in_any_company(graph: GraphPolicy) -> None:
    fast, query = graph, asked(16, 50, 20)
    together = fast.expected(query)
    again = pickle.loads(pickle.dumps(fast))
    for row in range(16):
        for padding in (0, 13):
            np.testing.assert_array_equal(fast.expected(of_row(query, row, padding))[0], together[row])
        np.testing.assert_array_equal(again.expected(of_row(query, row))[0], together[row])


@pytest.mark.heavy
def test_a_copy_answers_the_same_and_has_the_same_weights(graph: GraphPolicy) -> None:
    fast, query = graph, asked(2, 5, 3)
    copied = deepcopy(fast)
    np.testing.assert_array_equal(copied.expected(query), fast.expected(query))
    for name, array in fast.state_dict().items():
        np.testing.assert_array_equal(copied.state_dict()[name], array)


@pytest.mark.heavy
def test_weights_that_its_graph_was_not_made_of_are_refused(graph: GraphPolicy) -> None:
    graph.load_state_dict(graph.state_dict())
    with pytest.raises(PolicyError, match="a graph keeps the weights that it was made of"):
        graph.load_state_dict({name: 0.5 * array for name, array in graph.state_dict().items()})


@pytest.mark.heavy
def test_it_decides_by_the_same_explorer(graph: GraphPolicy) -> None:
    policy = TransformerPolicy(trained().network, Softmax(temperature=0.5))
    query, fast = asked(4, 6, 5), GraphPolicy(graph._graph, policy.explorer, graph.state_dict())
    of_torch, of_fast = (p.distribution(query, np.random.default_rng(0)) for p in (policy, fast))
    np.testing.assert_allclose(of_fast, of_torch, rtol=0, atol=1e-5)
    slates = fast.decide(query, 1, np.random.default_rng(0))
    np.testing.assert_allclose(slates.propensities[:, 0], of_fast[np.arange(4), slates.positions[:, 0]], rtol=1e-12)


@pytest.mark.heavy
def test_other_features_than_it_was_trained_with_are_refused(graph: GraphPolicy) -> None:
    with pytest.raises(PolicyError, match="a query has 3 features, this network was trained with 0"):
        graph.expected(asked(1, 2, 1, 3))


@pytest.mark.slow
def test_a_network_that_is_computed_otherwise_is_refused() -> None:
    broken = trained()
    list(broken.network.head.parameters())[-1].data[:] = float("nan")
    with pytest.raises(PolicyError, match="differs from torch's by nan"):
        broken.export_graph()


@pytest.mark.slow
def test_the_service_answers_by_it_without_torch(tmp_path: Path) -> None:
    config = TransformerConfig(network=QNetworkConfig(width=8))
    encoder = CatalogueEncoder(tuple("abcdefghi"))
    artefact = Artefact(name="net", config=config, policy=trained(), encoder=encoder, history=5)
    save(artefact.with_graph(), tmp_path / "net")
    kept = shelve(tmp_path / "net", Settings(home=tmp_path))
    assert isinstance(kept.policy, GraphPolicy)
    query = asked(2, 5, 3)
    np.testing.assert_allclose(kept.policy.expected(query), trained().expected(query), rtol=0, atol=1e-5)
    code = (
        "import sys; from pathlib import Path; from rl.artefacts.artefact import load_served;"
        "load_served(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "net")], check=False).returncode == 0
    (tmp_path / "net" / "model.onnx").write_bytes(b"another")
    with pytest.raises(ArtefactError, match=r"model\.onnx has sha256"):
        shelve(tmp_path / "net", Settings(home=tmp_path))


def test_without_a_graph_the_service_answers_by_torch(tmp_path: Path) -> None:
    config = TransformerConfig(network=QNetworkConfig(width=8))
    encoder = CatalogueEncoder(tuple("abcdefghi"))
    save(Artefact(name="net", config=config, policy=trained(), encoder=encoder, history=5), tmp_path / "net")
    kept = shelve(tmp_path / "net", Settings(home=tmp_path))
    assert isinstance(kept.policy, TransformerPolicy)
    query = asked(2, 5, 3)
    np.testing.assert_array_equal(kept.policy.expected(query), trained().expected(query))
