"""What an experiment of kind `offline` is described by."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from data.fields import PolicyName
from data.reward import RewardSpec
from data.schema import LOOP_V1
from rl.algorithms.offline.config import OfflineQHyperparameters
from rl.config import TrainingConfig
from rl.training.run.experiment import Environment, Section


class Log(Section):
    """Who makes the table where none is given: a Q network that has begun to learn, and then explores."""

    interactions: Annotated[int, Field(ge=1, description="transitions to log")] = 50_000
    env_steps: Annotated[int, Field(ge=1, description="environment steps that it learns for before")] = 2_000
    epsilon: Annotated[float, Field(gt=0, le=1, description="probability of a uniform draw")] = 0.3


class Sessions(Section):
    """How the service's log becomes episodes; with `reward`, which says when a session ends."""

    loop: Annotated[str, Field(description="whose decisions")] = LOOP_V1
    discount: Annotated[float, Field(ge=0, le=1, description="of a session's later decisions; 0: each is alone")] = 0.9
    history: Annotated[int, Field(ge=1, description="entries of what the user was shown and has done")] = 20
    held_out: Annotated[
        float, Field(ge=0, lt=1, description="share of the users who are not learned from: they judge the policy")
    ] = 0.2


class OfflineExperiment(TrainingConfig):
    """Train a Q network from logged transitions, by conservative Q learning or cloning."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.train")

    kind: Literal["offline"] = "offline"
    name: PolicyName = Field(default="offline_shop", description="of the run and its policy")
    source: Literal["simulator", "log"] = Field(
        default="simulator", description="learn from a table of a simulator's transitions, or from the service's log"
    )
    environment: Environment = Field(default=Environment(), description="the simulator that the policy is judged in")
    table: str | None = Field(
        default=None,
        description="file or folder of a simulator's transitions; default: make one as `log` says. Of the service's "
        "log: a new folder that its table is left in; default: none, it is deleted",
    )
    log: Log = Log()
    reward: RewardSpec = Field(default=RewardSpec(), description="what the feedback of the service's log is worth")
    sessions: Sessions = Sessions()
    offline: OfflineQHyperparameters = OfflineQHyperparameters()
    episodes: int = Field(default=4_000, ge=2, description="of the evaluation")
    envs: int = Field(default=250, ge=1, description="episodes that are played at once")
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1, description="of linear algebra; networks this small are slower with more")
