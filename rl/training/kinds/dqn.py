"""Kind `dqn`: a transformer Q network learns in a simulator. Light: RLlib is imported when it is run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.policies import PolicyConfig, TransformerConfig
from rl.policy.interface import Policy
from rl.training.kinds.experiment import SimulatorExperiment
from rl.training.kinds.q_section import QLearning, Share
from rl.training.kinds.simulated import run

__all__ = ["DQN", "Experiment", "QExperiment", "run"]


class DQN(QLearning):
    """Hyper-parameters, with the names and defaults that `rl.algorithms.dqn.algorithm.DQNConfig.training` has."""

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


class QExperiment(SimulatorExperiment):
    """Base of the experiments of deep Q learning."""

    def trained_by(self, config: Any, section: DQN) -> Any:
        """Return RLlib's configuration, a `DQNConfig`, with the hyper-parameters and with what all algorithms share."""
        parameters = {name: getattr(section, name) for name in type(section).model_fields} | {
            "network": section.network.model_dump(),
            "horizon": self.env_steps,
        }
        return self.configured(config).training(**parameters)

    def learned(self, module: Any) -> Policy:
        """Return the policy of the averaged network."""
        policy: Policy = module.averaged_policy()
        return policy

    def schedules(self, config: Any, env_steps: int) -> dict[str, float]:
        """Return the probability of exploring and the learning rate."""
        return {"epsilon": config.epsilon_at(env_steps), "lr": config.lr_at(env_steps)}


class Experiment(QExperiment):
    """Train a transformer Q network in a simulator by deep Q learning."""

    kind: Literal["dqn"] = "dqn"
    dqn: DQN = DQN()

    def algorithm(self) -> Any:
        """See `SimulatorExperiment.algorithm`."""
        from rl.algorithms.dqn.algorithm import DQNConfig

        return self.trained_by(DQNConfig(), self.dqn)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return TransformerConfig(network=self.dqn.network)
