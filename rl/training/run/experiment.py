"""What the experiments that RLlib runs have in common: a policy learns in a simulator."""

from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from data.fields import PolicyName
from rl.config import TrainingConfig
from rl.policies import PolicyConfig
from rl.policy.interface import Policy


class Section(BaseModel):
    """Base of an experiment's tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Environment(Section):
    """Which simulator."""

    name: Annotated[str, Field(description="of `rl.simulators.registry`, or your own as module:Class")] = (
        "raycommend/Shop-v0"
    )
    options: Annotated[dict[str, Any], Field(description="of the simulator, by name")] = {}


class Evaluation(Section):
    """When and how the policy is judged, without exploration and on episodes it does not learn from."""

    every: Annotated[int, Field(ge=1, description="environment steps between two evaluations")] = 10_000
    episodes: Annotated[int, Field(ge=2, description="of each evaluation")] = 1_000
    envs: Annotated[int, Field(ge=1, description="episodes that are played at once")] = 250


class SimulatorExperiment(TrainingConfig):
    """Base of the experiments that RLlib runs."""

    model_config = SettingsConfigDict(cli_prog_name="python -m rl.train")

    name: PolicyName = Field(default="shop", description="of the run and its policy; a run is continued by its name")
    environment: Environment = Environment()
    env_steps: int = Field(default=200_000, ge=1, description="environment steps of the whole training")
    seed: int = Field(default=0, ge=0)
    runners: int = Field(default=0, ge=0, description="processes that play; 0: the learner's own process plays")
    envs_per_runner: int = Field(default=64, ge=1, description="episodes that each of them plays at once")
    fragment: int | None = Field(
        default=None,
        ge=1,
        description="steps of each episode that a runner takes before it hands them over and is given new weights; "
        "default: 1, in Q learning 10 where runners are processes of their own",
    )
    cpus_per_runner: float = Field(default=1.0, gt=0, description="that Ray reserves for each")
    threads: int = Field(default=1, ge=1, description="of linear algebra; networks this small are slower with more")
    evaluation: Evaluation = Evaluation()
    checkpoint_every_s: float = Field(default=60.0, ge=0, description="seconds between two checkpoints")
    fresh: bool = Field(default=False, description="begin anew, even if an unfinished run has this name")

    fragment_of_processes: ClassVar[int] = 1
    """`fragment`, where runners are processes of their own and it is not given."""

    @abstractmethod
    def algorithm(self) -> Any:
        """Return RLlib's configuration of the algorithm, an `AlgorithmConfig`. Imports ray and torch."""

    @abstractmethod
    def policy_config(self) -> PolicyConfig:
        """Return the description of the policy that is learned, as an artefact keeps it."""

    @abstractmethod
    def get_policy(self, module: Any) -> Policy:
        """Return the policy that an `RLModule` of the algorithm has learned, which goes on changing with it."""

    def schedules(self, config: Any, env_steps: int) -> dict[str, float]:
        """Return what changes by plan and is logged, given RLlib's configuration."""
        return {}

    def configure(self, config: Any) -> Any:
        """Return RLlib's configuration with what all algorithms share: simulator, runners, seed."""
        return (
            config.environment(self.environment.name, env_config=self.environment.options)
            .env_runners(
                num_env_runners=self.runners,
                num_envs_per_env_runner=self.envs_per_runner,
                rollout_fragment_length=self.fragment or (self.fragment_of_processes if self.runners else 1),
                num_cpus_per_env_runner=self.cpus_per_runner,
            )
            .debugging(seed=self.seed, log_level="ERROR")
        )
