"""Hyper-parameters of deep Q learning."""

from typing import Annotated

from pydantic import Field

from rl.algorithms.hyperparameters import BatchSize, FinalShare, Hyperparameters, Loss, Share, WeightDecay
from rl.policies.transformer.config import QNetworkConfig


class QLearningHyperparameters(Hyperparameters):
    """Hyper-parameters of every kind of Q learning, from a simulator or from a table."""

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


class DQNHyperparameters(QLearningHyperparameters):
    """Hyper-parameters of deep Q learning in a simulator."""

    gamma: Annotated[float | None, Field(ge=0, le=1, description="discount; default: the simulator's own")] = None
    env_steps_per_update: Annotated[float, Field(gt=0, description="environment steps between two updates")] = 16
    learning_starts: Annotated[int, Field(ge=0, description="environment steps before the first update")] = 500
    rounds_per_iteration: Annotated[int, Field(ge=1, description="steps of each episode between two reports")] = 20
    n_step: Annotated[int, Field(ge=1, description="rewards that a target sums")] = 1
    replay_capacity: Annotated[int, Field(ge=1, description="transitions kept")] = 200_000
    priority_alpha: Annotated[float, Field(ge=0, description="how much TD errors count in drawing; 0: not")] = 0.0
    priority_beta: Annotated[Share, Field(description="how much weights make up for it")] = 0.4
    epsilon_initial: Annotated[Share, Field(description="probability of a uniform draw at the start")] = 1.0
    epsilon_final: Annotated[Share, Field(description="the same after its fall, which is linear")] = 0.05
    epsilon_share: Annotated[Share, Field(description="of the training, its first, in which it falls")] = 0.5
    compile_network: Annotated[bool, Field(description="needs a C++ compiler and a minute, for long runs")] = False
