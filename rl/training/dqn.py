"""Kind `dqn`: a transformer Q network learns in a simulator. Light: RLlib is imported when it is run."""

from typing import Annotated, Any, Literal

from pydantic import Field

from rl.policies import PolicyConfig, TransformerConfig
from rl.policies.q_config import QNetworkConfig
from rl.policy import Policy
from rl.training.experiment import Section, SimulatorExperiment
from rl.training.simulated import run

__all__ = ["DQN", "Experiment", "QExperiment", "run"]

Share = Annotated[float, Field(ge=0, le=1)]


class DQN(Section):
    """Hyper-parameters, with the names and defaults that `rl.algorithms.dqn.DQNConfig.training` has."""

    network: QNetworkConfig = QNetworkConfig()
    gamma: Annotated[float | None, Field(ge=0, le=1, description="discount; default: the simulator's own")] = None
    lr: Annotated[float, Field(gt=0, description="learning rate of AdamW")] = 1e-3
    lr_final_share: Annotated[Share, Field(description="of the learning rate, left at the end")] = 1.0
    lr_decay_share: Annotated[Share, Field(description="of the training, its last, in which it falls linearly")] = 0.5
    weight_decay: Annotated[float, Field(ge=0, description="of AdamW")] = 0.0
    adam_epsilon: Annotated[float, Field(gt=0, description="of AdamW")] = 1e-8
    grad_clip: Annotated[float | None, Field(gt=0, description="largest norm of a gradient")] = None
    train_batch_size_per_learner: Annotated[int, Field(ge=1, description="transitions of an update")] = 128
    env_steps_per_update: Annotated[float, Field(gt=0, description="environment steps between two updates")] = 16
    learning_starts: Annotated[int, Field(ge=0, description="environment steps before the first update")] = 500
    rounds_per_iteration: Annotated[int, Field(ge=1, description="steps of each episode between two reports")] = 20
    n_step: Annotated[int, Field(ge=1, description="rewards that a target sums")] = 1
    double_q: Annotated[bool, Field(description="choose the next action by the online network")] = True
    loss: Annotated[Literal["mse", "huber"], Field(description="of the TD errors")] = "huber"
    tau: Annotated[float, Field(gt=0, le=1, description="rate of the averaged network, per update")] = 0.005
    replay_capacity: Annotated[int, Field(ge=1, description="transitions kept")] = 200_000
    priority_alpha: Annotated[float, Field(ge=0, description="how much TD errors count in drawing; 0: not")] = 0.0
    priority_beta: Annotated[Share, Field(description="how much weights make up for it")] = 0.4
    epsilon_initial: Annotated[Share, Field(description="probability of a uniform draw at the start")] = 1.0
    epsilon_final: Annotated[Share, Field(description="the same after its fall, which is linear")] = 0.05
    epsilon_share: Annotated[Share, Field(description="of the training, its first, in which it falls")] = 0.5


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
        from rl.algorithms.dqn import DQNConfig

        return self.trained_by(DQNConfig(), self.dqn)

    def policy_config(self) -> PolicyConfig:
        """See `SimulatorExperiment.policy_config`."""
        return TransformerConfig(network=self.dqn.network)
