"""The Q network: every candidate attends to the user's history and sees which entries are itself. Needs torch.

Axis names as in `rl.policy`; W is the width of the network and H the number of heads. No weight depends on the number
of candidates or on their order, so they may change from request to request; an item that the network has not met is
item 0, whose vector is learned from items that are hidden in training now and then.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from rl.policy import AGE, ITEM, N_OUTCOMES, OUTCOME

import os

_FAR = -1e9  # added to the logit of an entry that may not be attended to


class QNetworkConfig(BaseModel):
    """The shape of a Q network."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    width: Annotated[int, Field(ge=1, description="W: length of every vector")] = 32
    heads: Annotated[int, Field(ge=1, description="H: attention heads; divides the width")] = 2
    layers: Annotated[int, Field(ge=0, description="self-attention blocks over the history")] = 1
    oldest: Annotated[int, Field(ge=1, description="age in steps from which entries are told apart no more")] = 32
    dueling: bool = True
    item_dropout: Annotated[float, Field(ge=0, lt=1, description="share of items hidden in training")] = 0.0


class QNetwork(nn.Module):
    """Q values of candidates given a history and features.

    Args:
        config: its shape.
        n_items: N, number of items; ids are 1 to N.
        n_features: F, length of the features of the context or of context and candidate; 0 for none.
    """

    def __init__(self, config: QNetworkConfig, n_items: int, n_features: int) -> None:
        super().__init__()
        width = config.width
        self.config, self.n_items, self.n_features = config, n_items, n_features
        self.item = nn.Embedding(n_items + 1, width)
        self.outcome = nn.Embedding(N_OUTCOMES, width)
        self.age = nn.Embedding(config.oldest + 1, width)
        self.nobody = nn.Parameter(torch.randn(width) * 0.02)  # the entry every history begins with
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.encoded = nn.LayerNorm(width)
        self.features = nn.Linear(n_features, width) if n_features else None
        self.cross = CrossAttention(width, config.heads)
        self.count = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width))
        self.head = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1))
        self.value = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)) if config.dueling else None
        for table in (self.item, self.outcome, self.age):
            nn.init.normal_(table.weight, std=float(os.environ.get("ISTD", "1")) if table is self.item else 1.0)

    def forward(self, items: Tensor, mask: Tensor, history: Tensor, features: Tensor) -> Tensor:
        """Return Q values [B, A]; they are finite, and of no meaning where the mask is off.

        Args:
            items: [B, A] candidates, integers; those beyond N are unknown.
            mask: [B, A] which of them may be chosen.
            history: [B, T, 3] as in `rl.policy.Query`.
            features: [B, A, F] or [B, 1, F].
        """
        entries, candidates = self._known(history[:, :, ITEM]), self._known(items)  # [B, T], [B, A]
        hidden_entries, hidden_candidates = self._hide(entries, candidates)
        encoded, present = self._encode(entries, hidden_entries, history)
        asking = self.item(hidden_candidates)  # [B, A, W]
        if self.features is not None:
            asking = asking + self.features(features)
        itself = (candidates.unsqueeze(2) == entries.unsqueeze(1)) & present[:, None, 1:]  # [B, A, T]
        counted = self._count(history, itself, present)
        q = self.head(torch.cat([asking, counted + self.cross(asking, encoded, itself, present)], 2)).squeeze(2)
        if self.value is not None:  # Wang et al., "Dueling network architectures" (2016), eq. 9, over the candidates
            allowed = mask.to(q.dtype)
            mean = (q * allowed).sum(1, keepdim=True) / allowed.sum(1, keepdim=True).clamp(min=1)
            q = q - mean + self.value(encoded[:, 0] + asking.mean(1) * (self.features is not None))
        return q

    def _count(self, history: Tensor, itself: Tensor, present: Tensor) -> Tensor:
        kinds = self.outcome.weight[:, None] + self.age.weight  # [outcomes, ages, W]
        table = self.count(kinds).flatten(0, 1)
        ages = history[:, :, AGE].clamp(max=self.config.oldest)
        of_all, of_own = F.embedding(history[:, :, OUTCOME] * (self.config.oldest + 1) + ages, table).chunk(2, dim=2)
        some = present[:, None, 1:].to(of_all.dtype)
        return some @ of_all + itself.to(of_all.dtype) @ of_own

    def _known(self, items: Tensor) -> Tensor:
        """Return ids with those beyond N as 0."""
        return items * (items <= self.n_items)

    def _hide(self, entries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids that vectors are looked up by: in training some items are hidden, row by row."""
        if not self.training or not self.config.item_dropout:
            return entries, candidates
        shown = torch.rand(len(entries), self.n_items + 1, device=entries.device) >= self.config.item_dropout
        return (ids * shown.gather(1, ids.long()) for ids in (entries, candidates))  # type: ignore[return-value]

    def _encode(self, entries: Tensor, hidden: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoded history after the entry of nobody [B, 1 + T, W], and which entries are present [B, 1 + T].

        An entry of item 0 with an age is an unknown item; one without is padding.
        """
        ages = history[:, :, AGE].clamp(max=self.config.oldest)
        x = self.item(hidden) + self.outcome(history[:, :, OUTCOME]) + self.age(ages)
        x = torch.cat([self.nobody.expand(len(x), 1, -1), x], dim=1)
        present = F.pad(ages > 0, (1, 0), value=True)
        same = F.pad((entries.unsqueeze(2) == entries.unsqueeze(1)), (1, 0, 1, 0), value=False)
        for block in self.blocks:
            x = block(x, same, present)
        encoded: Tensor = self.encoded(x)
        return encoded, present


class Block(nn.Module):
    """Self-attention that knows which entries are of the same item, and a feed-forward layer; both residual.

    Source: Vaswani et al., "Attention is all you need" (2017), with the normalisation before each part.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.same = nn.Parameter(torch.zeros(heads))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, same: Tensor, present: Tensor) -> Tensor:
        """Return x [B, T, W] transformed; same is [B, T, T], present [B, T]."""
        batch, length, width = x.shape
        q, k, v = self.qkv(self.before(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = same[:, None] * self.same[:, None, None] + (~present * _FAR)[:, None, None]  # [B, H, T, T]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        fed: Tensor = x + self.down(F.gelu(self.up(self.between(x))))
        return fed


class CrossAttention(nn.Module):
    """What each candidate takes from the history: a mean by attention, and sums over all entries and over its own.

    The sums count, which a mean cannot: three clicks of four are not one of one.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.same = nn.Parameter(torch.zeros(heads))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, asking: Tensor, encoded: Tensor, itself: Tensor, present: Tensor) -> Tensor:
        """Return [B, A, W].

        Args:
            asking: [B, A, W] candidates.
            encoded: [B, 1 + T, W] history after the entry of nobody.
            itself: [B, A, T] which entries are the candidate.
            present: [B, 1 + T] which entries are not padding.
        """
        batch, n_candidates, width = asking.shape
        q = self.query(asking).view(batch, n_candidates, self.heads, -1).transpose(1, 2)
        k, v = self.kv(encoded).view(batch, encoded.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        own = F.pad(itself, (1, 0), value=False)  # [B, A, 1 + T]
        bias = own[:, None] * self.same[:, None, None] + (~present * _FAR)[:, None, None]
        mean = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(asking.shape)
        taken: Tensor = self.out(mean)
        return taken


Loss = Literal["mse", "huber"]
