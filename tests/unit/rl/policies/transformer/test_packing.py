"""Two histories in one row: the same Q values, gradients and losses from half the entries."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from rl.algorithms.bypass.flat import flatten
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.slates.network import SlateNetwork
from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork
from rl.policies.transformer.packing import share
from rl.policy.queries import AGE, CLICK, IGNORED, ITEM, OUTCOME

N, T, A, F = 7, 6, 5, 3


def histories(lengths: Sequence[int], width: int = T) -> Tensor:
    """Random entries, as many in each row, padded on the left; an unknown item among them is no padding."""
    rng = np.random.default_rng(len(lengths))
    history = np.zeros((len(lengths), width, 3), dtype=np.int32)
    for row, length in enumerate(lengths):
        at = slice(width - length, width)
        history[row, at, ITEM] = rng.integers(0, N + 1, length)
        history[row, at, OUTCOME] = rng.choice([IGNORED, CLICK], length)
        history[row, at, AGE] = np.arange(length, 0, -1)
    return torch.from_numpy(history)


def network(config: QNetworkConfig, kind: type[QNetwork] = QNetwork) -> QNetwork:
    """A network whose every part has a say: nothing is zero as it is at first."""
    torch.manual_seed(0)
    made = kind(config, N, F)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def requests(lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(5)
    batch = len(lengths)
    items = torch.from_numpy(np.stack([rng.permutation(N + 2)[:A] for _ in range(batch)]))  # 0 and 8 are unknown
    mask = torch.from_numpy(rng.random((batch, A)) < 0.8)
    mask[:, 0] = True
    features = torch.from_numpy(rng.standard_normal((batch, 1, F)).astype(np.float32))
    return items, mask, histories(lengths), features


def shared_q(net: QNetwork, items: Tensor, mask: Tensor, history: Tensor, features: Tensor) -> Tensor:
    shared = share(history)
    assert shared is not None
    order = shared.order
    q: Tensor = net(items[order], mask[order], shared.history, features[order], owner=shared.owner)
    return q[shared.back]


CONFIGS = [
    QNetworkConfig(width=8),
    QNetworkConfig(width=8, layers=0, dueling=False),
    QNetworkConfig(width=8, layers=2, heads=4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["default", "no layers", "two layers"])
@pytest.mark.parametrize("lengths", [(0, 6), (6, 0, 3, 2), (1, 1, 0, 0), (0, 0), (2, 6, 0, 5, 3, 1, 2, 4)])
def test_q_values_and_gradients_are_those_of_rows_of_their_own(config: QNetworkConfig, lengths: Sequence[int]) -> None:
    rows, net = requests(lengths), network(config).double()
    rows = (*rows[:3], rows[3].double())
    counts = torch.rand(len(lengths), A, dtype=torch.float64)
    found = []
    for q in (net(*rows), shared_q(net, *rows)):
        net.zero_grad()
        (q * counts).sum().backward()
        found.append([q.detach(), *(torch.zeros(()) if p.grad is None else p.grad.clone() for p in net.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_a_slate_network_judges_alike() -> None:
    items, _, history, features = requests((6, 0, 3, 2))
    net = network(SlateNetworkConfig(width=8), SlateNetwork)
    assert isinstance(net, SlateNetwork)
    shared = share(history)
    assert shared is not None
    order = shared.order
    judged = net.judge(items[order], shared.history, features[order], owner=shared.owner)
    for found, wanted in zip(judged, net.judge(items, history, features), strict=True):
        torch.testing.assert_close(found[shared.back], wanted)


def test_the_longest_shares_with_the_shortest() -> None:
    """Lengths 6, 0, 3 and 2: 0 with 6 and 2 with 3, in rows of 6 entries; with the 2 they begin with that is even."""
    history = histories((6, 0, 3, 2))
    shared = share(history)
    assert shared is not None
    assert shared.order.tolist() == [1, 0, 3, 2]
    assert shared.back.tolist() == [1, 0, 3, 2]
    assert shared.owner.tolist() == [[1] * 6, [0, 0, 2, 1, 1, 1]]
    assert torch.equal(shared.history[0], history[0])
    assert torch.equal(shared.history[1, :2], history[3, 4:])
    assert torch.equal(shared.history[1, 3:], history[2, 3:])


def test_rows_are_as_long_as_is_even() -> None:
    """Lengths 5, 0, 3 and 2 need rows of 5 entries and 2 that they begin with: 8 in all, as 7 take longer."""
    shared = share(histories((5, 0, 3, 2)))
    assert shared is not None
    assert shared.owner.tolist() == [[2, 1, 1, 1, 1, 1], [0, 0, 2, 1, 1, 1]]


@pytest.mark.parametrize("lengths", [(6, 6, 6, 6), (6, 0, 3), (5, 6)], ids=["all full", "odd", "nearly full"])
def test_where_nothing_is_saved_nothing_is_shared(lengths: Sequence[int]) -> None:
    assert share(histories(lengths)) is None


def test_items_are_hidden_from_both_requests_of_a_row_on_their_own() -> None:
    """With every known item hidden, entries and candidates have the unknown item's vector, however rows are shared."""
    net = network(QNetworkConfig(width=8, item_dropout=0.999999))
    rows = requests((6, 0, 3, 2))
    with torch.no_grad():
        known = net(*rows)
        net.item.weight[1:] = 77.0
        torch.testing.assert_close(shared_q(net, *rows), known)


def test_flat_parameters_are_the_modules_own() -> None:
    """A step of the vector is a step of each parameter, and a loaded state is seen in the vector."""
    net, plain = network(CONFIGS[0]), network(CONFIGS[0])
    flat = flatten(net)
    one = torch.optim.AdamW([flat], lr=0.1, weight_decay=0.3)
    each = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.3)
    rows = requests((6, 0, 3, 2))
    for _ in range(3):
        for some, optimiser in ((net, one), (plain, each)):
            optimiser.zero_grad(set_to_none=False)
            some(*rows).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(net.state_dict(), plain.state_dict())
    net.load_state_dict({name: torch.zeros_like(array) for name, array in net.state_dict().items()})
    assert not flat.any()
