"""The training loops that `tests.bench.dqn_loop` compares, each in a process of its own."""

import logging
import warnings
from collections.abc import Callable
from statistics import median
from time import process_time
from typing import Any

import ray
import stable_baselines3
import torch
from ray.rllib.algorithms.dqn.dqn import DQNConfig as StockConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import QNetAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.registry import register_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from rl.algorithms.dqn.algorithm import DQN, DQNConfig
from rl.algorithms.dqn.module import QModule
from rl.experience.checks import NEXT
from rl.policies.transformer.config import QNetworkConfig
from rl.policies.transformer.network import QNetwork
from rl.simulators.batched import SingleEnv
from rl.simulators.shop.shop import PRODUCTS, Shop
from rl.training.run.session import quiet
from tests.bench.common import say

BATCH, RATIO, GAMMA = 128, 16, 0.9
WARM_UP = 2_000
Loop = Callable[[], int]

OURS_DOUBLE, RLLIB, SB3 = "ours, double and prioritised", "RLlib", "stable-baselines3"
OURS_PLAIN, OURS_COMPILED = "ours, plain", "ours, plain and compiled"

_here: dict[str, Any] = {}
"""The algorithm and the loop of this process."""


def start(name: str) -> None:
    """Make a loop in this process, and run it until it updates."""
    torch.set_num_threads(1)
    quiet()
    warnings.filterwarnings("ignore")
    if name != SB3:
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    _here["algorithm"] = LOOPS[name]()
    _here["loop"] = stable(_here["algorithm"]) if name == SB3 else loop_of(_here["algorithm"])
    taken = 0
    while taken < WARM_UP:
        taken += _here["loop"]()


def speed(seconds: float) -> float:
    """Return the environment steps a second that this process's loop makes in about so many seconds."""
    start, steps = process_time(), 0
    while process_time() - start < seconds:
        steps += _here["loop"]()
    return steps / (process_time() - start)


def ours(double: bool, alpha: float, compiled: bool = False) -> DQN:
    """Make our algorithm."""
    config = (
        DQNConfig()
        .environment("raycommend/Shop-v0")
        .env_runners(num_envs_per_env_runner=64)
        .training(
            gamma=GAMMA,
            train_batch_size_per_learner=BATCH,
            env_steps_per_update=RATIO,
            double_q=double,
            priority_alpha=alpha,
            learning_starts=WARM_UP // 2,
            compile_network=compiled,
        )
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm: DQN = config.build_algo()
    return algorithm


class StockModule(QModule, QNetAPI):  # type: ignore[misc]
    """Our network behind the interface that RLlib's DQN learner asks for."""

    def setup(self) -> None:
        self.model_config = {"seed": 0}  # RLlib's DQN adds fields of its own
        super().setup()

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"qf_preds": self.q_values(self.net, batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            after = batch[Columns.NEXT_OBS]
            chooser, values = self.q_values(self.net, after), self.q_values(self._target, after)
        return self.compute_q_values(batch) | {"qf_next_preds": chooser, "qf_target_next_preds": values}


def stock() -> Any:
    """Make RLlib's DQN: one environment, 16 steps, one update."""
    register_env("one_shop", lambda _: SingleEnv(Shop(1)))
    config = (
        StockConfig()
        .environment("one_shop")
        .env_runners(num_env_runners=0, rollout_fragment_length=RATIO)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=StockModule, model_config={"seed": 0}))
        .training(
            gamma=GAMMA,
            train_batch_size_per_learner=BATCH,
            double_q=True,
            num_steps_sampled_before_learning_starts=WARM_UP // 2,
            replay_buffer_config={"type": "PrioritizedEpisodeReplayBuffer", "capacity": 200_000, "alpha": 0.6},
        )
        .reporting(min_sample_timesteps_per_iteration=0, min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    return config.build_algo()


def loop_of(algorithm: Any) -> Loop:
    """Return a loop of an RLlib algorithm's training."""
    taken = 0

    def loop() -> int:
        nonlocal taken
        before = taken
        taken = int(algorithm.train()["env_runners"]["num_env_steps_sampled_lifetime"])
        return taken - before

    return loop


class StableNetwork(BasePolicy):
    """Our network behind stable-baselines3's interface."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        super().__init__(observation_space, action_space)
        self.net = QNetwork(QNetworkConfig(), PRODUCTS, 0)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        items, history = obs["items"].int(), obs["history"].int()
        q: Tensor = self.net(items, obs["mask"], history, items.new_zeros((len(items), 1, 0), dtype=torch.float32))
        return q

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        best: Tensor = self(observation).argmax(dim=1)
        return best


class StablePolicy(DQNPolicy):
    """stable-baselines3's policy with our network."""

    def make_q_net(self) -> Any:
        return StableNetwork(self.observation_space, self.action_space).to(self.device)


def stable_dqn() -> Any:
    """Make stable-baselines3's DQN: 16 environments, one step of each, one update."""
    envs = make_vec_env(lambda: SingleEnv(Shop(1)), n_envs=RATIO)
    options: Any = {"train_freq": 1, "gradient_steps": 1, "learning_starts": 0, "buffer_size": 200_000}
    return stable_baselines3.DQN(StablePolicy, envs, batch_size=BATCH, gamma=GAMMA, device="cpu", seed=0, **options)


def stable(learner: Any) -> Loop:
    """Return a loop of stable-baselines3's training."""

    def loop() -> int:
        learner.learn(RATIO * 40, reset_num_timesteps=False, log_interval=10**9)
        return RATIO * 40

    return loop


def share_of_bare_update(updates: int = 200) -> float:
    """Return the CPU time of the network's own passes over that of whole updates, each the median of many."""
    algorithm: DQN = _here["algorithm"]
    whole, bare = [], []
    module = algorithm.learner_group._learner.module[DEFAULT_MODULE_ID].unwrapped()
    for _ in range(updates):
        algorithm._due = 1.0
        start = process_time()
        algorithm._update()
        whole.append(process_time() - start)
        columns = algorithm.replay.sample(BATCH, algorithm._rng)[2]
        now = {name: torch.as_tensor(column) for name, column in columns.items()}
        after = {name.removeprefix(NEXT): column for name, column in now.items() if name.startswith(NEXT)}
        start = process_time()
        with torch.no_grad():
            module.q_values(module.net, after)
            module.q_values(module._target, after)
        module.q_values(module.net, now).sum().backward()
        bare.append(process_time() - start)
    say(f"an update takes {1e3 * median(whole):.2f} ms, the network's passes {1e3 * median(bare):.2f} ms")
    return median(bare) / median(whole)


LOOPS: dict[str, Callable[[], Any]] = {
    OURS_DOUBLE: lambda: ours(double=True, alpha=0.6),
    RLLIB: stock,
    OURS_PLAIN: lambda: ours(double=False, alpha=0.0),
    OURS_COMPILED: lambda: ours(double=False, alpha=0.0, compiled=True),
    SB3: stable_dqn,
}
"""How each algorithm is made."""
