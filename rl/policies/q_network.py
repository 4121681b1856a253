"""The Q network: every candidate attends to the user's history and sees which entries are itself. Needs torch.

Axis names as in `rl.policy`; W is the width of the network, H the number of heads and E = 1 + T the entries of a
history with the one that every history begins with. No weight depends on the number of candidates or on their order, so
they may change from request to request. An item that the network has not met is item 0; its vector is learned if
`item_dropout` hides known items now and then.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl.policies.q_config import QNetworkConfig
from rl.policy import AGE, ITEM, N_OUTCOMES, OUTCOME

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
        self.encoded = nn.LayerNorm(width)
        self.features = nn.Linear(n_features, width) if n_features else None
        self.cross = CrossAttention(width, config.heads)
        self.tally = Tally(width)
        self.head: nn.Module = nn.Linear(width, 1)
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)) if config.dueling else None

    def forward(self, items: Tensor, mask: Tensor, history: Tensor, features: Tensor) -> Tensor:
        """Return Q values [B, A]; they are finite, and of no meaning where the mask is off.

        Args:
            items: [B, A] candidates, integers; those beyond N are unknown.
            mask: [B, A] which of them may be chosen.
            history: [B, T, 3] as in `rl.policy.Query`.
            features: [B, A, F] or [B, 1, F].
        """
        state, asking, taken = self.attend(items, history, features)
        q: Tensor = self.head(torch.relu(asking + taken)).squeeze(2)
        if self.value is None:
            return q
        # Wang et al., "Dueling network architectures" (2016), eq. 9, with the mean over the candidates
        allowed = mask.to(q.dtype)
        mean = (q * allowed).sum(1, keepdim=True) / allowed.sum(1, keepdim=True).clamp(min=1)
        valued: Tensor = q - mean + self.value(state)
        return valued

    def attend(self, items: Tensor, history: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the state [B, W], the candidates as vectors [B, A, W], and what each takes from the history."""
        entries, candidates = self._known(history[:, :, ITEM]), self._known(items)  # [B, T], [B, A]
        shown_entries, shown_candidates = self._hide(entries, candidates)
        present = functional.pad(history[:, :, AGE] > 0, (1, 0), value=True)  # [B, E]
        kinds = self._kinds(history)  # [B, T]
        encoded = self._encode(entries, shown_entries, kinds, present)  # [B, E, W]
        state, asking = encoded[:, 0], self.item(shown_candidates)
        if self.features is not None:
            described = self.features(features)  # [B, A or 1, W]
            state, asking = state + described.mean(1), asking + described
        itself = candidates.unsqueeze(2) == entries.unsqueeze(1)  # [B, A, T]
        own = functional.pad(itself, (1, 0)) & present.unsqueeze(1)  # [B, A, E]
        taken = self.cross(asking, encoded, own, present)
        return state, asking, taken + self.tally(self._kind_vectors(), kinds, own[:, :, 1:], present[:, 1:])

    def _known(self, items: Tensor) -> Tensor:
        """Return ids with those beyond N as 0."""
        return items * (items <= self.n_items)

    def _hide(self, entries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids that vectors are looked up by: in training some items of each row are hidden."""
        if not self.training or not self.config.item_dropout:
            return entries, candidates
        shown = torch.rand(len(entries), self.n_items + 1, device=entries.device) >= self.config.item_dropout
        return entries * shown.gather(1, entries.long()), candidates * shown.gather(1, candidates.long())

    def _kinds(self, history: Tensor) -> Tensor:
        """Return the row of `_kind_vectors` of each entry, [B, T]."""
        return history[:, :, OUTCOME] * (self.config.oldest + 1) + history[:, :, AGE].clamp(max=self.config.oldest)

    def _kind_vectors(self) -> Tensor:
        """Return a vector for each outcome and age, [outcomes * ages, W]."""
        return (self.outcome.weight.unsqueeze(1) + self.age.weight).flatten(0, 1)

    def _encode(self, entries: Tensor, shown: Tensor, kinds: Tensor, present: Tensor) -> Tensor:
        """Return the encoded history, [B, E, W]. Present are entries with an age: one of item 0 is an unknown item."""
        x = self.item(shown) + functional.embedding(kinds, self._kind_vectors())
        x = torch.cat([self.beginning.expand(x.shape[0], 1, -1), x], dim=1)
        if len(self.blocks):
            same = functional.pad(entries.unsqueeze(2) == entries.unsqueeze(1), (1, 0, 1, 0))  # [B, E, E]
            for block in self.blocks:
                x = block(x, same, present)
        encoded: Tensor = self.encoded(x)
        return encoded


class Tally(nn.Module):
    """Sums over the history that know outcome and age but no item: of all entries, and of the candidate's own.

    Sums count, which the means of attention cannot: three clicks of four are not one of one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.worth = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, 2 * width))

    def forward(self, vectors: Tensor, kinds: Tensor, own: Tensor, present: Tensor) -> Tensor:
        """Return [B, A, W].

        Args:
            vectors: [kinds, W].
            kinds: [B, T] which of them each entry is.
            own: [B, A, T] which entries are the candidate.
            present: [B, T] which entries are not padding.
        """
        of_any, of_own = functional.embedding(kinds, self.worth(vectors)).chunk(2, dim=2)  # [B, T, W] each
        summed: Tensor = own.to(of_own.dtype) @ of_own + (of_any * present.unsqueeze(2)).sum(1, keepdim=True)
        return summed


class Block(nn.Module):
    """Self-attention that knows which entries are of the same item, and a feed-forward layer; each adds to its input.

    Source: Vaswani et al., "Attention is all you need" (2017), with the normalisation before each part.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.same = nn.Parameter(torch.zeros(heads))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, same: Tensor, present: Tensor) -> Tensor:
        """Return x [B, E, W] transformed; same is [B, E, E], present [B, E]."""
        q, k, v = self.qkv(self.before(x)).chunk(3, dim=2)
        x = x + self.out(attention(q, k, v, same, self.same, present))
        fed: Tensor = x + self.down(torch.relu(self.up(self.between(x))))
        return fed


class CrossAttention(nn.Module):
    """What each candidate takes from the encoded history; nothing at first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.same = nn.Parameter(torch.zeros(heads))
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def forward(self, asking: Tensor, encoded: Tensor, own: Tensor, present: Tensor) -> Tensor:
        """Return [B, A, W] for candidates [B, A, W], a history [B, E, W], and which entries are theirs [B, A, E]."""
        k, v = self.kv(encoded).chunk(2, dim=2)
        taken: Tensor = self.out(attention(self.query(asking), k, v, own, self.same, present))
        return taken


def attention(q: Tensor, k: Tensor, v: Tensor, same: Tensor, bonus: Tensor, present: Tensor) -> Tensor:
    """Return softmax(qkᵀ / √(W / H) + bonus where same) v over the present entries, head by head, [B, Q, W].

    Written out because the bonus is learned: for a bias with a gradient torch's fused attention falls back to a slower
    general one.

    Args:
        q: [B, Q, W].
        k: [B, E, W].
        v: [B, E, W].
        same: [B, Q, E].
        bonus: [H].
        present: [B, E], on in at least one place of each row.
    """
    heads, (batch, asking, width) = len(bonus), q.shape
    q, k, v = (x.view(batch, -1, heads, width // heads).transpose(1, 2) for x in (q, k, v))  # [B, H, ., W / H]
    far = (~present).to(q.dtype).mul(_FAR)[:, None, None]
    bias = same.to(q.dtype).unsqueeze(1) * bonus[:, None, None] + far  # [B, H, Q, E]
    weights = torch.softmax(q @ k.transpose(2, 3) * (width // heads) ** -0.5 + bias, dim=3)
    return (weights @ v).transpose(1, 2).reshape(batch, asking, width)
