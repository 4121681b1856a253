"""The learner of bandits: it adds what was observed to the statistics, without a gradient."""

from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
)

from rl.policy.queries import DENSE, Impressions


class BanditLearner(TorchLearner):
    """Calls `BanditModule.learn` with every batch."""

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Make no optimizer: nothing here has a gradient."""

    def compute_loss_for_module(self, *, module_id: str, config: Any, batch: Any, fwd_out: Any) -> Any:
        """Refuse: a bandit has no loss."""
        raise NotImplementedError("a bandit has no loss: BanditLearner.update adds observations")

    def update(
        self,
        batch: MultiAgentBatch | None = None,
        *,
        training_data: TrainingData | None = None,
        timesteps: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Add the observations of a batch (see `as_batch`), which comes by itself or as training data."""
        self._check_is_built()
        if training_data is not None:
            training_data.solve_refs()
            batch = training_data.batch
        assert batch is not None, "a bandit learns from batches only"
        observations = Impressions(**{name: batch[DEFAULT_MODULE_ID][name] for name in DENSE})
        self.module[DEFAULT_MODULE_ID].learn(observations)
        self._weights_seq_no += 1
        self._count(len(observations), batch.env_steps())
        return self.metrics.reduce()

    def _count(self, observations: int, env_steps: int) -> None:
        for key, lifetime, n in (
            (NUM_MODULE_STEPS_TRAINED, NUM_MODULE_STEPS_TRAINED_LIFETIME, observations),
            (NUM_ENV_STEPS_TRAINED, NUM_ENV_STEPS_TRAINED_LIFETIME, env_steps),
        ):
            for module in (ALL_MODULES, DEFAULT_MODULE_ID):
                self.metrics.log_value((module, key), n, reduce="sum")
                self.metrics.log_value((module, lifetime), n, reduce="lifetime_sum")


def as_batch(observations: Impressions, env_steps: int) -> MultiAgentBatch:
    """Return observations as the batch that RLlib carries to a learner."""
    columns = {name: getattr(observations, name) for name in DENSE}
    return MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps)
