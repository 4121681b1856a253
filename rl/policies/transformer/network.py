"""The Q network: every candidate attends to the user's history and sees which entries are itself.

Axis names as in `rl.policy.interface`; W is the width of the network, H the number of heads, M the number of requests
that share a row of history (1, unless a learner saves padding by it), R the rows, and E = M + T a row's entries with
those that every history begins with. No weight depends on the number of candidates or on their order, so
they may change from request to request. An item that the network has not met is item 0; its vector is learned if
`item_dropout` hides known items now and then.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl.policies.transformer.config import QNetworkConfig
from rl.policy.queries import AGE, ITEM, N_OUTCOMES, OUTCOME

Tables = tuple[Tensor, Tensor]
"""For each kind of entry, an outcome at an age: its vector [kinds, W], and what it counts in a tally [kinds, 2 W]."""

_FAR = -1e9  # added to the logit of an entry that may not be attended to


class QNetwork(nn.Module):
    """Q values of candidates given a history and features.

    What happened to a candidate itself counts most, so two paths lead from the history to it: `Tally` adds up what
    kinds of entries (outcome and age) there are, and are the candidate's own, whatever the items; attention adds what
    depends on the items, and starts from nothing. The first learns from few interactions, the second from many.

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
        self.outcome, self.age = nn.Embedding(N_OUTCOMES, width), nn.Embedding(config.oldest + 1, width)
        nn.init.normal_(self.item.weight, std=0.1)  # items are alike until they show that they are not
        self.beginning = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.encoded = nn.LayerNorm(width, elementwise_affine=False)
        self.features = nn.Linear(n_features, width) if n_features else None
        self.cross = CrossAttention(width, config.heads)
        self.tally = Tally(width)
        self.head: nn.Module = nn.Linear(width, 1)
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)) if config.dueling else None

    def outputs(self, items: Tensor, mask: Tensor, history: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return all that the network says of B requests, by name: what its ONNX model computes."""
        return {"q": self(items, mask, history, features)}

    def forward(
        self,
        items: Tensor,
        mask: Tensor,
        history: Tensor,
        features: Tensor,
        tables: Tables | None = None,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Return Q values [B, A]; they are finite, and of no meaning where the mask is off.

        Args:
            items: [B, A] candidates, integers; those beyond N are unknown.
            mask: [B, A] which of them may be chosen.
            history: [B, T, 3] as in `rl.policy.queries.Query`, or [R, T, 3] with `owner`.
            features: [B, A, F] or [B, 1, F].
            tables: what `tables` has returned since the weights last changed; computed if not given.
            owner: [R, T] where M = B / R requests, one after another, share a row of the history, see
                `rl.policies.transformer.packing`: which of them an entry is of, 0 to M - 1, or M for padding.
        """
        state, asking, taken = self.attend(items, history, features, tables, owner)
        q: Tensor = self.head(torch.relu(asking + taken)).squeeze(2)
        if self.value is None:
            return q
        # Wang et al., "Dueling network architectures" (2016), eq. 9, with the mean over the candidates
        allowed = mask.to(q.dtype)
        mean = (q * allowed).sum(1, keepdim=True) / allowed.sum(1, keepdim=True).clamp(min=1)
        valued: Tensor = q - mean + self.value(state)
        return valued

    def tables(self) -> Tables:
        """Return what follows from the weights alone, for many calls of `forward` with the same weights."""
        vectors = (self.outcome.weight.unsqueeze(1) + self.age.weight).flatten(0, 1)
        return vectors, self.tally.worth(vectors)

    def attend(
        self,
        items: Tensor,
        history: Tensor,
        features: Tensor,
        tables: Tables | None = None,
        owner: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state [B, W], the candidates as vectors [B, A, W], and what each takes from the history."""
        (batch, among), rows = items.shape, history.shape[0]
        sharing = 1 if owner is None else batch // rows  # M
        entries, candidates = self._mask_unknown(history[:, :, ITEM]), self._mask_unknown(items)  # [R, T], [B, A]
        shown_entries, shown_candidates = self._hide(entries, candidates, owner)
        mine, far, apart = self._near(history, owner, sharing)
        (vectors, worth), kinds = tables or self.tables(), self._kinds(history)
        of_kind = functional.embedding(kinds, vectors)  # [R, T, W]
        encoded = self._encode(entries, shown_entries, of_kind, apart, sharing)  # [R, E, W]
        state, asking = encoded[:, :sharing].reshape(batch, -1), self.item(shown_candidates)
        if self.features is not None:
            described = self.features(features)  # [B, A or 1, W]
            state, asking = state + described.mean(1), asking + described
        present = mine[:, :, sharing:]  # [R, M, T]
        own = candidates.reshape(rows, sharing, among, 1) == entries.reshape(rows, 1, 1, -1)
        own = (own * present.unsqueeze(2)).flatten(1, 2)  # [R, M A, T]
        if sharing > 1:
            far = far.repeat_interleave(among, dim=1)
        taken = self.cross(asking.reshape(rows, sharing * among, -1), encoded, functional.pad(own, (sharing, 0)), far)
        return state, asking, (taken + self.tally(worth, kinds, own, present)).view_as(asking)

    def _near(self, history: Tensor, owner: Tensor | None, sharing: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return which entries are a request's own, 1 or 0 [R, M, E], and what keeps the others away.

        That is to be added to the logits of attention to them: from a request [R, M, E], from an entry [R, 1 or E, E].
        """
        dtype = self.item.weight.dtype
        if owner is None:
            mine = functional.pad((history[:, :, AGE] > 0).to(dtype).unsqueeze(1), (1, 0), value=1.0)
            far = (1 - mine) * _FAR
            return mine, far, far
        beginnings = torch.arange(sharing, dtype=owner.dtype, device=owner.device).expand(len(owner), -1)
        whose = torch.cat([beginnings, owner], dim=1)  # [R, E]
        mine = (whose.unsqueeze(1) == beginnings.unsqueeze(2)).to(dtype)
        return mine, (1 - mine) * _FAR, (whose.unsqueeze(2) != whose.unsqueeze(1)).to(dtype) * _FAR

    def _mask_unknown(self, items: Tensor) -> Tensor:
        """Return ids with those beyond N as 0."""
        return items * (items <= self.n_items)

    def _hide(self, entries: Tensor, candidates: Tensor, owner: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the ids that vectors are looked up by: in training some items of each request are hidden."""
        if not self.training or not self.config.item_dropout:
            return entries, candidates
        (rows, batch), ids = (len(entries), len(candidates)), self.n_items + 1
        shown = torch.rand(batch, ids, device=entries.device) >= self.config.item_dropout
        places = entries.long() if owner is None else entries.long() + owner.long() * ids
        of_row = functional.pad(shown.view(rows, -1), (0, ids), value=True)  # padding is nobody's
        return entries * of_row.gather(1, places), candidates * shown.gather(1, candidates.long())

    def _kinds(self, history: Tensor) -> Tensor:
        """Return the row of each entry in the tables, [B, T]."""
        return history[:, :, OUTCOME] * (self.config.oldest + 1) + history[:, :, AGE].clamp(max=self.config.oldest)

    def _encode(self, entries: Tensor, shown: Tensor, of_kind: Tensor, far: Tensor, sharing: int) -> Tensor:
        """Return the encoded history [R, E, W], first what each request begins with, then the entries.

        Present are entries with an age: one of item 0 is an unknown item.
        """
        x = self.item(shown) + of_kind
        x = torch.cat([self.beginning.expand(x.shape[0], sharing, -1), x], dim=1)
        if len(self.blocks):
            same = (entries.unsqueeze(2) == entries.unsqueeze(1)).to(x.dtype)
            same = functional.pad(same, (sharing, 0, sharing, 0))  # [R, E, E]
            for block in self.blocks:
                x = block(x, same, far)
        encoded: Tensor = self.encoded(x)
        return encoded


class Tally(nn.Module):
    """Sums over the history that know outcome and age but no item: of all entries, and of the candidate's own.

    Sums count, which the means of attention cannot: three clicks of four are not one of one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.worth = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width))

    def forward(self, worth: Tensor, kinds: Tensor, own: Tensor, present: Tensor) -> Tensor:
        """Return [R, M A, W].

        Args:
            worth: [kinds, 2 W] what an entry of each kind counts, whosever it is, and if it is the candidate's own.
            kinds: [R, T] which of them each entry is.
            own: [R, M A, T] 1 where an entry is of the candidate's request and the candidate, else 0.
            present: [R, M, T] 1 where an entry is of the request, else 0.
        """
        of_any, of_own = functional.embedding(kinds, worth).chunk(2, dim=2)  # [R, T, W] each
        rows, sharing, _ = present.shape
        summed = (own @ of_own).view(rows, sharing, -1, of_own.shape[2]) + (present @ of_any).unsqueeze(2)
        return summed.flatten(1, 2)


class Block(nn.Module):
    """Self-attention that knows which entries are of the same item, beside a feed-forward layer; both add to the input.

    The two read the same normalised input, so that their projections are one matrix product. There is none for the
    queries nor for what attention returns: with one head they would change the parameters of the keys and values only.
    Source: Vaswani et al., "Attention is all you need" (2017); side by side as in Chowdhery et al., "PaLM" (2022).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.normalised = nn.LayerNorm(width, elementwise_affine=False)
        self.parts = [width, width, 2 * width]  # keys, values, feed-forward
        self.inward, self.outward = nn.Linear(width, 4 * width), nn.Linear(2 * width, width)
        self.same = nn.Parameter(torch.zeros(heads))
        nn.init.zeros_(self.inward.weight[width : 2 * width])  # the block begins by changing nothing
        nn.init.zeros_(self.inward.bias[width : 2 * width])
        nn.init.zeros_(self.outward.weight)

    def forward(self, x: Tensor, same: Tensor, far: Tensor) -> Tensor:
        """Return x [B, E, W] transformed; same and far as in `attention`."""
        y = self.normalised(x)
        k, v, fed = self.inward(y).split(self.parts, dim=2)
        transformed: Tensor = x + attention(y, k, v, same, self.same, far) + self.outward(torch.relu(fed))
        return transformed


class CrossAttention(nn.Module):
    """What each candidate takes from the encoded history; nothing at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.kv = nn.Linear(width, 2 * width)
        self.same = nn.Parameter(torch.zeros(heads))
        nn.init.zeros_(self.kv.weight[width:])
        nn.init.zeros_(self.kv.bias[width:])

    def forward(self, asking: Tensor, encoded: Tensor, own: Tensor, far: Tensor) -> Tensor:
        """Return [B, A, W] for candidates [B, A, W], a history [B, E, W], and which entries are theirs [B, A, E]."""
        k, v = self.kv(encoded).chunk(2, dim=2)
        return attention(asking, k, v, own, self.same, far)


def attention(q: Tensor, k: Tensor, v: Tensor, same: Tensor, bonus: Tensor, far: Tensor) -> Tensor:
    """Return softmax(qkᵀ / √(W / H) + bonus · same + far) v, head by head, [B, Q, W].

    Written out because the bonus is learned: for a bias with a gradient torch's fused attention falls back to a slower
    general one.

    Args:
        q: [B, Q, W].
        k: [B, E, W].
        v: [B, E, W].
        same: [B, Q, E] 1 where an entry is of the same item, else 0.
        bonus: [H].
        far: [B, 1 or Q, E] 0 for the entries that are present, else a number so low that nothing is taken from them.
    """
    heads, (batch, asking, width) = len(bonus), q.shape
    scaled = q * (width // heads) ** -0.5
    if heads == 1:  # the common case, without an axis of one
        return torch.softmax(torch.baddbmm(same * bonus + far, scaled, k.transpose(1, 2)), dim=2) @ v
    scaled, k, v = (x.view(batch, -1, heads, width // heads).transpose(1, 2) for x in (scaled, k, v))
    bias = same.unsqueeze(1) * bonus[:, None, None] + far.unsqueeze(1)  # [B, H, Q, E]
    weights = torch.softmax(scaled @ k.transpose(2, 3) + bias, dim=3)
    return (weights @ v).transpose(1, 2).reshape(batch, asking, width)
