"""The layers that inner nodes become.

Axis names: B rows, T places of a sequence, W width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rl.networks.description.nodes import (
    Activate,
    AttentionNode,
    DenseNode,
    ResidualNode,
)

_ACTIVATIONS: dict[Activate, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class Activation(NamedTuple):
    """What a node gives: a vector [B, W], or a sequence [B, T, W] with the places that hold something."""

    x: Tensor
    present: Tensor | None = None
    """[B, T] bool; None for a vector."""


class Pooled(nn.Module):
    """A sequence [B, T, W] as one vector [B, W] of the places that hold something; 0 where none does."""

    def __init__(self, how: str, width: int) -> None:
        super().__init__()
        self.how = how
        self.query = nn.Parameter(torch.randn(width) * width**-0.5) if how == "attention" else None

    def forward(self, given: Activation) -> Activation:
        """Weigh the places and sum: each 1 (sum) or 1/n (mean), the last alone, or by a learned query's softmax."""
        x, present = given
        assert present is not None
        here = present.to(x.dtype)  # [B, T]
        match self.how:
            case "sum":
                weights = here
            case "mean":
                weights = here / here.sum(dim=1, keepdim=True).clamp(min=1)
            case "last":
                places = torch.arange(1, x.shape[1] + 1, device=x.device) * present  # 0 where empty
                weights = here * (places == places.amax(dim=1, keepdim=True))
            case _:
                assert self.query is not None
                logits = (x @ self.query) * x.shape[2] ** -0.5
                # not -inf: a row without any place would be NaN. The mask after it makes such a row 0.
                weights = logits.masked_fill(~present, torch.finfo(x.dtype).min).softmax(dim=1) * here
        return Activation((weights[:, :, None] * x).sum(dim=1))


class Dense(nn.Module):
    """activation(norm(W x + b)), then dropout, on the last axis."""

    def __init__(self, node: DenseNode, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, node.width)
        self.norm = nn.LayerNorm(node.width) if node.layer_norm else nn.Identity()
        self.activation = _ACTIVATIONS[node.activation]()
        self.dropout = nn.Dropout(node.dropout)

    def forward(self, given: Activation) -> Activation:
        """Give the same places."""
        return Activation(self.dropout(self.activation(self.norm(self.linear(given.x)))), given.present)


class Residual(nn.Module):
    """x + W₂ activation(W₁ norm(x)), on the last axis.

    Source: He et al., Identity Mappings in Deep Residual Networks, 2016: the identity path is left untouched.
    """

    def __init__(self, node: ResidualNode, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if node.layer_norm else nn.Identity()
        self.inner = nn.Linear(width, node.hidden)
        self.activation = _ACTIVATIONS[node.activation]()
        self.outer = nn.Linear(node.hidden, width)
        self.dropout = nn.Dropout(node.dropout)

    def forward(self, given: Activation) -> Activation:
        """Give the same places."""
        change = self.outer(self.activation(self.inner(self.norm(given.x))))
        return Activation(given.x + self.dropout(change), given.present)


class Attention(nn.Module):
    """A transformer block: every place of a sequence looks at every place that holds something.

    Source: Vaswani et al., Attention Is All You Need, 2017, with the norm in front (Xiong et al., 2020).
    """

    def __init__(self, node: AttentionNode, width: int) -> None:
        super().__init__()
        self.heads, self.rate = node.heads, node.dropout
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.outer = nn.Linear(width, width)
        self.dropout = nn.Dropout(node.dropout)
        self.feed = Residual(ResidualNode(input="", hidden=node.hidden, activation="gelu", dropout=node.dropout), width)

    def forward(self, given: Activation) -> Activation:
        """Give the same places; what stands at an empty one means nothing."""
        x, present = given
        assert present is not None
        _, length, width = x.shape
        split = self.project(self.norm(x)).unflatten(2, (3, self.heads, width // self.heads))  # [B, T, 3, H, W/H]
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # each [B, H, T, W/H]
        # a row without any place looks at all of them: a softmax over nothing would be NaN, also in the gradient
        seen = present | ~present.any(dim=1, keepdim=True)
        mixed = scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen[:, None, None, :], dropout_p=self.rate if self.training else 0.0
        )
        joined = mixed.transpose(1, 2).reshape(-1, length, width)
        after: Activation = self.feed(Activation(x + self.dropout(self.outer(joined)), present))
        return after


def concatenate(given: Sequence[Activation]) -> Activation:
    """Lay activations side by side on the last axis; a place holds something where it does in any of them."""
    return Activation(torch.cat([one.x for one in given], dim=-1), _any_present(given))


def add(given: Sequence[Activation]) -> Activation:
    """Sum activations; a place holds something where it does in any of them."""
    return Activation(torch.stack([one.x for one in given]).sum(dim=0), _any_present(given))


def _any_present(given: Sequence[Activation]) -> Tensor | None:
    masks = [one.present for one in given if one.present is not None]
    return torch.stack(masks).any(dim=0) if masks else None
