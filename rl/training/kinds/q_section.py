"""The hyper-parameters of every kind of Q learning. Light."""

from typing import Annotated, Literal

from pydantic import Field

from rl.policies.transformer.config import QNetworkConfig
from rl.training.kinds.experiment import Section

Share = Annotated[float, Field(ge=0, le=1)]
BatchSize = Annotated[int, Field(ge=1, description="transitions of an update")]
Loss = Annotated[Literal["mse", "huber"], Field(description="of the TD errors")]
FinalShare = Annotated[Share, Field(description="of the learning rate, left at the end")]
WeightDecay = Annotated[float, Field(ge=0, description="of AdamW")]


class QLearning(Section):
    """Hyper-parameters, with the names that `rl.algorithms.dqn.config.QLearningConfig.training` has."""

    network: QNetworkConfig = QNetworkConfig()
    lr: Annotated[float, Field(gt=0, description="learning rate of AdamW")] = 1e-3
    lr_final_share: FinalShare = 1.0
    lr_decay_share: Annotated[Share, Field(description="of the training, its last, in which it falls linearly")] = 0.5
    weight_decay: WeightDecay = 0.0
    adam_epsilon: Annotated[float, Field(gt=0, description="of AdamW")] = 1e-8
    grad_clip: Annotated[float | None, Field(gt=0, description="largest norm of a gradient")] = None
    train_batch_size_per_learner: BatchSize = 128
    double_q: Annotated[bool, Field(description="choose the next action by the online network")] = True
    loss: Loss = "huber"
    tau: Annotated[float, Field(gt=0, le=1, description="rate of the averaged network, per update")] = 0.005
