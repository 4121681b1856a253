"""Hyper-parameters of Q learning from a table of logged transitions."""

from typing import Annotated, Literal

from pydantic import Field

from rl.algorithms.dqn.config import QLearningHyperparameters
from rl.algorithms.hyperparameters import BatchSize, FinalShare, Loss, WeightDecay
from rl.policies.slates.config import SlateNetworkConfig

Passes = Annotated[int, Field(ge=1, description="times that the table is gone through; many overfit")]
Shuffled = Annotated[int, Field(ge=1, description="transitions that a batch is drawn from")]


class OfflineQHyperparameters(QLearningHyperparameters):
    """Hyper-parameters of conservative Q learning and of cloning."""

    method: Annotated[
        Literal["conservative_q", "cloning"], Field(description="value actions, or imitate who made the log")
    ] = "conservative_q"
    conservatism: Annotated[float, Field(ge=0, description="α, in units of reward; 0: plain Q learning")] = 0.01
    towards: Annotated[
        Literal["behaviour", "uniform", "learned"], Field(description="whose actions count in the TD loss")
    ] = "learned"
    temperature: Annotated[float, Field(gt=0, description="of `learned`, in units of reward")] = 0.1
    weight_clip: Annotated[float, Field(gt=0, description="largest importance weight before normalisation")] = 5.0
    earned: Annotated[bool, Field(description="clone what earned more than the average")] = False
    passes: Passes = 4
    shuffled: Shuffled = 50_000
    train_batch_size_per_learner: BatchSize = 256
    loss: Loss = "mse"
    lr_final_share: FinalShare = 0.02
    weight_decay: WeightDecay = 0.3


class OfflineSlateQHyperparameters(QLearningHyperparameters):
    """Hyper-parameters of SlateQ from a table of logged slates."""

    network: SlateNetworkConfig = SlateNetworkConfig()
    choice_weight: Annotated[float, Field(ge=0, description="of the choice model's loss, beside that of values")] = 1.0
    passes: Passes = 4
    shuffled: Shuffled = 50_000
    train_batch_size_per_learner: BatchSize = 256
    lr_final_share: FinalShare = 0.02
    weight_decay: WeightDecay = 0.3
