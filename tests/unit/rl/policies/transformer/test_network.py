"""What the Q network must not depend on, and what it must."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork, attention
from rl.policies.transformer.policy import tensors
from rl.policy.queries import AGE, CLICK, IGNORED, ITEM, OUTCOME, Query

N, T, F = 7, 6, 3
CONFIGS = [
    QNetworkConfig(width=8),
    QNetworkConfig(width=8, layers=0, dueling=False),
    QNetworkConfig(width=8, layers=2, heads=4),
]
each = pytest.mark.parametrize("config", CONFIGS, ids=["default", "no layers", "two layers"])


def network(config: QNetworkConfig, n_features: int = F) -> QNetwork:
    """A network whose every part has a say: nothing is zero as it is at first."""
    torch.manual_seed(0)
    made = QNetwork(config, N, n_features).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made


def asked() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four users with histories of 0, 2, 4 and 6 entries, five candidates each."""
    rng = np.random.default_rng(3)
    history = np.zeros((4, T, 3), dtype=np.int64)
    for row, length in enumerate((0, 2, 4, 6)):
        if length:
            history[row, -length:, ITEM] = rng.integers(1, N + 1, length)
            history[row, -length:, OUTCOME] = rng.choice([IGNORED, CLICK], length)
            history[row, -length:, AGE] = np.arange(length, 0, -1)
    items = np.stack([rng.permutation(N)[:5] + 1 for _ in range(4)])
    features = rng.standard_normal((4, 1, F)).astype(np.float32)
    return torch.tensor(items), torch.ones(4, 5), torch.tensor(history), torch.tensor(features)


@each
def test_candidates_may_come_in_any_order(config: QNetworkConfig) -> None:
    items, mask, history, features = asked()
    order = torch.tensor([3, 0, 4, 2, 1])
    q = network(config)(items, mask, history, features)
    torch.testing.assert_close(network(config)(items[:, order], mask, history, features), q[:, order])


@each
def test_a_masked_candidate_changes_nothing(config: QNetworkConfig) -> None:
    items, mask, history, features = asked()
    off = mask.clone()
    off[:, 4] = 0
    other = items.clone()
    other[:, 4] = 0
    one, two = (network(config)(some, off, history, features)[:, :4] for some in (items, other))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(network(config)(items[:, :4], mask[:, :4], history, features), one)


@each
def test_padding_changes_nothing(config: QNetworkConfig) -> None:
    items, mask, history, features = asked()
    longer = torch.cat([torch.zeros(4, 5, 3, dtype=torch.int64), history], dim=1)
    q = network(config)(items, mask, history, features)
    torch.testing.assert_close(network(config)(items, mask, longer, features), q)


@each
def test_a_row_does_not_see_the_others(config: QNetworkConfig) -> None:
    rows = asked()
    q = network(config)(*rows)
    for row in range(4):
        torch.testing.assert_close(network(config)(*(part[row : row + 1] for part in rows)), q[row : row + 1])


@each
def test_a_candidate_sees_which_entries_are_itself(config: QNetworkConfig) -> None:
    """With items that are all alike as vectors, only identity tells a clicked candidate from another."""
    net = network(config)
    with torch.no_grad():
        net.item.weight.fill_(0.3)
    history = torch.zeros(1, T, 3, dtype=torch.int64)
    history[0, -1] = torch.tensor([4, CLICK, 1])
    q = net(torch.tensor([[3, 4, 5]]), torch.ones(1, 3), history, torch.zeros(1, 1, F))[0]
    torch.testing.assert_close(q[0], q[2])
    assert float((q[1] - q[0]).detach().abs()) > 1e-3


@each
def test_outcome_age_and_order_count(config: QNetworkConfig) -> None:
    items, mask, history, features = asked()
    q = network(config)(items, mask, history, features)[3]
    for column in (ITEM, OUTCOME, AGE):
        other = history.clone()
        other[3, -2, column] = 1 + (other[3, -2, column] % 4)
        assert (network(config)(items, mask, other, features)[3] - q).abs().max() > 1e-4


@each
def test_an_item_beyond_the_known_is_the_unknown_one(config: QNetworkConfig) -> None:
    items, mask, history, features = asked()
    unknown, beyond = items.clone(), items.clone()
    unknown[:, 0], beyond[:, 0] = 0, N + 5
    one, two = (network(config)(some, mask, history, features) for some in (unknown, beyond))
    torch.testing.assert_close(one, two)
    assert one.isfinite().all()


def test_a_very_old_entry_is_as_old_as_the_oldest() -> None:
    items, mask, history, features = asked()
    old, older = history.clone(), history.clone()
    old[:, -1, AGE], older[:, -1, AGE] = 32, 4_000
    net = network(CONFIGS[0])
    torch.testing.assert_close(net(items, mask, old, features), net(items, mask, older, features))


def test_hidden_items_are_hidden_in_training_only() -> None:
    net = network(QNetworkConfig(width=8, item_dropout=0.5))
    rows = asked()
    torch.testing.assert_close(net(*rows), net(*rows))
    torch.manual_seed(1)
    net.train()
    assert (net(*rows) - net.eval()(*rows)).abs().max() > 1e-3


def test_attention_is_the_softmax_written_out() -> None:
    """One head, one question, two entries and one that is not there: by hand."""
    q, k = torch.tensor([[[2.0]]]), torch.tensor([[[0.0], [1.0], [9.0]]])
    v = torch.tensor([[[1.0], [3.0], [100.0]]])
    same, bonus = torch.tensor([[[1.0, 0.0, 0.0]]]), torch.tensor([1.0])
    far = torch.tensor([[[0.0, 0.0, -1e9]]])
    weights = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()  # 2 * 0 + 1 and 2 * 1
    assert float(attention(q, k, v, same, bonus, far)) == pytest.approx(float(weights @ [1.0, 3.0]))


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_torchs(heads: int) -> None:
    """Without a bonus it is `scaled_dot_product_attention`."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, length, 8) for length in (4, 5, 5))
    present = torch.rand(3, 5) < 0.7
    present[:, 0] = True
    by_head = [x.view(3, -1, heads, 8 // heads).transpose(1, 2) for x in (q, k, v)]
    mask = present[:, None, None]
    wanted = functional.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], attn_mask=mask)
    found = attention(q, k, v, torch.zeros(3, 4, 5), torch.zeros(heads), (~present).unsqueeze(1) * -1e9)
    torch.testing.assert_close(found, wanted.transpose(1, 2).reshape(3, 4, 8))


def test_dueling_values_are_those_of_the_paper() -> None:
    """Eq. 9: the mean over the allowed candidates is the state's value, whatever the advantages."""
    items, mask, history, features = asked()
    mask[:, 3:] = 0
    net = network(CONFIGS[0])
    state, *_ = net.attend(items, history, features)
    assert net.value is not None
    torch.testing.assert_close(net(items, mask, history, features)[:, :3].mean(1), net.value(state)[:, 0])


@each
def test_tables_computed_before_change_nothing(config: QNetworkConfig) -> None:
    net, rows = network(config), asked()
    torch.testing.assert_close(net(*rows, net.tables()), net(*rows), rtol=0, atol=0)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="heads must divide the width, got 3 heads of width 8"):
        QNetworkConfig(width=8, heads=3)


def test_a_query_becomes_tensors_without_its_padding() -> None:
    items, mask, history, features = (part.numpy() for part in asked())
    query = Query(features.astype(np.float64), np.zeros(4, dtype=np.int64), items, mask.astype(np.bool_), history[:3])
    assert tensors(query)[2].shape == (3, 4, 3)
    none = Query(features, np.zeros(4, dtype=np.int64), items, mask.astype(np.bool_))
    assert tensors(none)[2].shape == (4, 1, 3)
    assert [part.dtype for part in tensors(none)] == [torch.int64, torch.bool, torch.int64, torch.float32]
