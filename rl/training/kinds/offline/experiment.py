"""What an experiment of kind `offline` is described by."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from data.fields import PolicyName
from rl.algorithms.offline.config import OfflineQHyperparameters
from rl.config import TrainingConfig
from rl.training.run.experiment import Environment, Section


class Log(Section):
    """Who makes the table where none is given: a Q network that has begun to learn, and then explores."""

    interactions: Annotated[int, Field(ge=1, description="transitions to log")] = 50_000
    env_steps: Annotated[int, Field(ge=1, description="environment steps that it learns for before")] = 2_000
    epsilon: Annotated[float, Field(gt=0, le=1, description="probability of a uniform draw")] = 0.3


class OfflineExperiment(TrainingConfig):
    """Train a Q network from logged transitions, by conservative Q learning or cloning."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.train")

    kind: Literal["offline"] = "offline"
    name: PolicyName = Field(default="offline_shop", description="of the run and its policy")
    environment: Environment = Field(default=Environment(), description="the simulator that the policy is judged in")
    table: str | None = Field(
        default=None, description="file or folder of transitions; default: make one as `log` says"
    )
    log: Log = Log()
    offline: OfflineQHyperparameters = OfflineQHyperparameters()
    episodes: int = Field(default=4_000, ge=2, description="of the evaluation")
    envs: int = Field(default=250, ge=1, description="episodes that are played at once")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="of linear algebra; networks this small are slower with more")
