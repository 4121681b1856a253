"""The slate network: what each candidate would add if the user chose it, and how likely that is.

Axis names as in `rl.policies.transformer.network`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.transformer.network import QNetwork, Tables


class Judged(NamedTuple):
    """What a slate network says of B queries."""

    nothing: Tensor
    """[B] Q̄(s, nothing): the value of showing a slate of which nothing is chosen."""
    added: Tensor
    """[B, A] Q̄(s, i) - Q̄(s, nothing): what it adds that the user chooses the candidate."""
    logits: Tensor
    """[B, A] log-odds of choosing the candidate rather than nothing from a slate of it alone."""


class SlateNetwork(QNetwork):
    """A Q network with a second head, for the choice, and with nothing as an alternative to the candidates.

    Both heads also see the product of the item's vector and the features, since what a user makes of an item is often
    a matter of one feature: with sums alone each such pair takes hidden units of its own.

    A user's whole value is mostly a matter of their state, and by far larger than what one choice adds. So the two have
    scales of their own: with one for both, the noise of long returns is learned as if single choices had made it.

    Args:
        config: its shape.
        n_items: N, number of items; ids are 1 to N.
        n_features: F, length of the features of the context or of context and candidate; 0 for none.
    """

    def __init__(self, config: SlateNetworkConfig, n_items: int, n_features: int) -> None:
        super().__init__(config, n_items, n_features)
        width = config.width
        self.value_scale, self.added_scale = config.value_scale, config.added_scale
        self.matched = nn.Linear(n_features, width) if n_features else None
        inward = 3 * width if n_features else 2 * width
        self.head, self.choice = (
            nn.Sequential(nn.Linear(inward, 2 * width), nn.ReLU(), nn.Linear(2 * width, 1)) for _ in range(2)
        )

    def forward(
        self,
        items: Tensor,
        mask: Tensor,
        history: Tensor,
        features: Tensor,
        tables: Tables | None = None,
        owner: Tensor | None = None,
    ) -> Tensor:
        """Return the value [B, A] of showing each candidate alone, Q(s, {i}); arguments as in `QNetwork.forward`."""
        judged = self.judge(items, history, features, tables, owner)
        return judged.nothing.unsqueeze(1) + judged.logits.sigmoid() * judged.added

    def outputs(self, items: Tensor, mask: Tensor, history: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return what `Judged` has, by name."""
        return self.judge(items, history, features)._asdict()

    def judge(
        self,
        items: Tensor,
        history: Tensor,
        features: Tensor,
        tables: Tables | None = None,
        owner: Tensor | None = None,
    ) -> Judged:
        """Return values and logits of the candidates; arguments as in `QNetwork.forward`."""
        state, *of_candidates = self.attend(items, history, features, tables, owner)
        if self.matched is not None:
            of_candidates.append(self.item(self._mask_unknown(items)) * self.matched(features))
        seen = torch.cat(of_candidates, dim=2)
        assert self.value is not None, "the configuration allows nothing else"
        return Judged(
            self.value_scale * self.value(state).squeeze(1),
            self.added_scale * self.head(seen).squeeze(2),
            self.choice(seen).squeeze(2),
        )
