"""What an experiment of kind `offline` is described by. Light."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from data.fields import PolicyName
from rl.config import TrainingConfig
from rl.training.kinds.experiment import Environment, Section
from rl.training.kinds.q_section import (
    BatchSize,
    FinalShare,
    Loss,
    QLearning,
    WeightDecay,
)


class Log(Section):
    """Who makes the table where none is given: a Q network that has begun to learn, and then explores."""

    interactions: Annotated[int, Field(ge=1, description="transitions to log")] = 50_000
    env_steps: Annotated[int, Field(ge=1, description="environment steps that it learns for before")] = 2_000
    epsilon: Annotated[float, Field(gt=0, le=1, description="probability of a uniform draw")] = 0.3


class Offline(QLearning):
    """Hyper-parameters, with the names and defaults of `OfflineQConfig.training` (`rl.algorithms.offline`)."""

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
    passes: Annotated[int, Field(ge=1, description="times that the table is gone through")] = 4
    shuffled: Annotated[int, Field(ge=1, description="transitions that a batch is drawn from")] = 50_000
    train_batch_size_per_learner: BatchSize = 256
    loss: Loss = "mse"
    lr_final_share: FinalShare = 0.02
    weight_decay: WeightDecay = 0.3


class Experiment(TrainingConfig):
    """Train a Q network from logged transitions, by conservative Q learning or cloning."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.train")

    kind: Literal["offline"] = "offline"
    name: PolicyName = Field(default="offline_shop", description="of the run and its policy")
    environment: Environment = Field(default=Environment(), description="the simulator that the policy is judged in")
    table: str | None = Field(
        default=None, description="file or folder of transitions; default: make one as `log` says"
    )
    log: Log = Log()
    offline: Offline = Offline()
    episodes: int = Field(default=4_000, ge=2, description="of the evaluation")
    envs: int = Field(default=250, ge=1, description="episodes that are played at once")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="of linear algebra; networks this small are slower with more")
