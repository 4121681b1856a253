"""How a policy for features of any kind is set up."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rl.policies.forgetting.config import Forgetting
from rl.policy.config import BasePolicyConfig
from rl.policy.explorers import ExplorerConfig, Votes
from rl.policy.interface import Policy

Interaction = Annotated[str, Field(min_length=2, max_length=4)]


class CrossedConfig(BasePolicyConfig):
    """Bayesian regression on crossed features, for `rl.encoders.json_features.FeaturesEncoder`."""

    kind: Literal["described"] = "described"
    explorer: ExplorerConfig = Votes(floor=0.0)
    """Votes count posterior samples; any other explorer is given the expected rewards."""
    epsilon: Annotated[
        float, Field(ge=0, le=1, description="share of uniform draws on top of the explorer: explorationPercentage")
    ] = 0.02
    interactions: Annotated[
        tuple[Interaction, ...],
        Field(description="first letters of namespaces whose features are multiplied; ':' is any, as in VW"),
    ] = ("::",)
    ignore_linear: Annotated[str, Field(description="first letters of namespaces that only interact")] = ""
    ignore: Annotated[str, Field(description="first letters of namespaces that are left out, as if never said")] = ""
    keep: Annotated[str, Field(description="first letters of namespaces that alone are not left out; none: all")] = ""
    constant: Annotated[bool, Field(description="whether there is a weight that all items have")] = True
    noise_sd: Annotated[
        float | None,
        Field(
            gt=0, description="σ: standard deviation of a reward given its features, in units of reward; none: learned"
        ),
    ] = None
    """Where it is learned, prior_sd and cell_sd are in units of twice the rewards' standard deviation, which is 1 for
    rewards of 0 and 1 evenly."""
    prior_sd: Annotated[
        float, Field(gt=0, description="standard deviation, before anything is known, of each kind of term's part")
    ] = 0.5
    cell_sd: Annotated[
        float, Field(ge=0, description="the same of what a whole context and item have of their own; 0: nothing")
    ] = 0.5
    samples: Annotated[int, Field(ge=1, le=4096, description="S: posterior samples that vote")] = 64
    max_features: Annotated[int, Field(ge=1, le=8192, description="D at most; then features share places")] = 512
    max_cells: Annotated[int, Field(ge=1, description="cells seen once, and again as many seen more often")] = 10_000
    forgetting: Annotated[Forgetting | None, Field(description="how it forgets, where rewards drift; none: never")] = (
        None
    )

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.crossed.policy import CrossedBandit
        from rl.policies.forgetting.policy import ForgettingPolicy

        if self.forgetting is not None:
            remembering = self.model_copy(update={"forgetting": None})
            return ForgettingPolicy(self.forgetting, lambda: CrossedBandit(remembering))
        return CrossedBandit(self)
