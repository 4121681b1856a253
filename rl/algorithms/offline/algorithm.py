"""Learning from a table of logged transitions, on RLlib and Ray Data.

    config = OfflineQConfig().offline_data(input_="var/transitions").training(passes=4)
    algorithm = config.build_algo()
    for _ in range(config.passes):
        algorithm.train()
    policy = algorithm.policy

RLlib's own offline algorithms either know continuous actions only (CQL, IQL) or imitate without propensities (BC,
MARWIL), and its DQN cannot do without an environment.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from ray.data import Dataset
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.offline.offline_data import OfflineData
from ray.rllib.utils.metrics import (
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    TIMERS,
)

from rl.algorithms.batch import to_multi_agent
from rl.algorithms.dqn.config import QLearningHyperparameters
from rl.algorithms.dqn.learner import QLearner
from rl.algorithms.dqn.module import QModule
from rl.algorithms.dqn.q_learning import QLearningConfig
from rl.algorithms.learners import learner_module
from rl.algorithms.offline.config import OfflineQHyperparameters, OfflineSlateQHyperparameters
from rl.algorithms.offline.learner import CloningLearner, ConservativeQLearner
from rl.algorithms.slate_q.learner import SlateQLearner
from rl.algorithms.slate_q.module import SlateQModule
from rl.experience.checks import CHOSEN, Columns
from rl.experience.transitions import (
    Table,
    batches,
    describe,
    read_dataset,
)
from rl.policies.transformer.policy import TransformerPolicy


class TransitionsData(OfflineData):
    """A table of transitions in the place where RLlib has its offline data.

    There is no plain way: the base class (Ray 2.60) makes episodes of the rows, which have no place for propensities or
    discounts, and takes the path through `pathlib`, by which "s3://..." becomes "s3:/...". So of it only the type is
    used, which RLlib asks for; the reading is Ray Data's in both.
    """

    def __init__(self, config: Any) -> None:
        self.config = config  # and no more: the base class would read now, and episodes

    @cached_property
    def data(self) -> Dataset:
        """The table, opened when the first pass begins."""
        return read_dataset(self.config.table, self.config.materialize_data)

    def batches(self, number: int) -> Iterator[Columns]:
        """Go through the table for the given time, [B, ...]; each time in another order, the same whenever it is."""
        seed = int(np.random.SeedSequence([self.config.seed or 0, number]).generate_state(1)[0])
        return batches(self.data, self.config.train_batch_size_per_learner, self.config.shuffled, seed)


class OfflineQConfig(QLearningConfig):
    """Configures `OfflineQ`; `offline_data(input_=...)` names the table, see `rl.experience.transitions`."""

    hyperparameters_class: ClassVar[type[QLearningHyperparameters]] = OfflineQHyperparameters

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or OfflineQ)
        self._is_online = False
        self.offline_data_class = TransitionsData
        self.materialize_data = True
        self.gamma = None  # the discounts are the table's own
        self.table: Table | None = None  # found when the configuration is checked

    def length(self) -> int:
        """Return the transitions of the whole training, each counted as often as it is learned from."""
        assert self.table is not None, "the configuration has been checked"
        return int(self.passes) * self.table.rows

    def validate(self) -> None:
        """Check what RLlib does not know of, and the table.

        Raises:
            ValueError: a value that cannot be trained with.
            DataError: the table cannot be trained from; a subclass of it.
        """
        if not self.is_offline or not isinstance(self.input_, str):
            raise ValueError("name the table of transitions, a path or an URI, as offline_data(input_=...)")
        if self.table is None or self.table.path != self.input_:
            self.table = describe(self.input_)
        self.check_table(self.table)
        self.observation_space, self.action_space = self.table.observation_space, self.table.action_space
        super().validate()
        if self.num_learners:
            raise ValueError(f"num_learners must be 0, got {self.num_learners}: the learner is in this process")

    def check_table(self, table: Table) -> None:
        """Raise ValueError for a table that this algorithm does not learn from."""
        if (slots := table.shapes["actions"]) != (1,):
            raise ValueError(f"a transition must have one action, {table.path} has slates {list(slots)}")

    def get_default_learner_class(self) -> type[QLearner]:
        """Name the learner."""
        return CloningLearner if self.method == "cloning" else ConservativeQLearner


class OfflineQ(Algorithm):
    """Goes through the table in batches, a pass with every call of `train`; no environment is needed."""

    config: Any
    offline_data: TransitionsData

    @classmethod
    def get_default_config(cls) -> OfflineQConfig:
        """Return the configuration to begin with."""
        return OfflineQConfig()

    def training_step(self) -> None:
        """Learn from every transition of the table once."""
        results: list[dict[str, np.ndarray]] = []
        before = rows = self.rows
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            for columns in self.offline_data.batches(before // self.config.table.rows):
                rows += len(columns["rewards"])
                steps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: rows}
                results += self.learner_group.update(batch=to_multi_agent(columns), timesteps=steps)
        self.metrics.log_value(NUM_ENV_STEPS_TRAINED_LIFETIME, rows - before, reduce="lifetime_sum")
        for name in results[0]:
            value = float(np.mean([np.abs(result[name]).mean() for result in results]))
            self.metrics.log_value((LEARNER_RESULTS, DEFAULT_MODULE_ID, name), value, window=1)

    def restore_from_path(self, path: Any, *args: Any, **options: Any) -> None:
        """Take over a checkpoint; `Algorithm` would go on to tell the runners, of which there are none."""
        super(Algorithm, self).restore_from_path(path, *args, **options)

    @property
    def rows(self) -> int:
        """Transitions learned from so far, each as often as it was."""
        return int(self.metrics.peek(NUM_ENV_STEPS_TRAINED_LIFETIME, default=0))

    @property
    def policy(self) -> TransformerPolicy:
        """The greedy policy of the averaged network."""
        module: QModule = learner_module(self)
        return module.averaged_policy()


class OfflineSlateQConfig(OfflineQConfig):
    """Configures `OfflineSlateQ`: slates of at least two slots, with the column `chosen`."""

    hyperparameters_class = OfflineSlateQHyperparameters
    module_class = SlateQModule

    def __init__(self, algo_class: type[Algorithm] | None = None) -> None:
        super().__init__(algo_class=algo_class or OfflineSlateQ)

    def check_table(self, table: Table) -> None:
        """See `OfflineQConfig.check_table`."""
        if CHOSEN not in table.shapes or table.shapes["actions"] == (1,):
            raise ValueError(f"SlateQ learns from slates of two items or more with a column {CHOSEN!r}: {table.path}")

    def get_default_learner_class(self) -> type[QLearner]:
        """Name the learner."""
        return SlateQLearner


class OfflineSlateQ(OfflineQ):
    """SlateQ from a table of logged slates: what was chosen is valued whatever else was shown, without propensities.

    Source: Ie et al., "SlateQ" (2019), section 4.
    """

    @classmethod
    def get_default_config(cls) -> OfflineSlateQConfig:
        """Return the configuration to begin with."""
        return OfflineSlateQConfig()
