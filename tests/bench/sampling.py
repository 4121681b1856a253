"""How fast experience is sampled: `python -m tests.bench.sampling [--seconds S]`.

The same shop and the same transformer, acting epsilon-greedily, in one process with one thread: our batched runner, the
same with `compile_network`, RLlib's own SingleAgentEnvRunner (in its default vectorisation), and the bare loop, which
is the simulator's step and the network's forward pass, not compiled, with nothing chosen, logged or kept. The ratio is
that of the runner which a size is for: where few environments act together, the network's operations take longer to
call than to compute, and compiling it saves that. Each is a process of its own, as its users would run it:
our runner sets how memory is allocated, which the others must not owe to it. The three take turns, so that a busy
machine is busy for all; a ratio is the median over the turns. Seconds are CPU seconds of the process, which on a quiet
machine are those of the clock.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from statistics import median
from time import process_time

import numpy as np
import torch
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rl.algorithms.bypass.rollout import BatchedEnvRunner
from rl.algorithms.dqn.algorithm import DQNConfig
from rl.policies.transformer.policy import TransformerPolicy, tensors
from rl.policy.queries import Query
from rl.simulators.batched import SingleEnv
from rl.simulators.shop.shop import Shop
from tests.bench.common import finish, plot, say

OURS, COMPILED, RLLIB, BARE = "ours", "ours compiled", "RLlib", "bare loop"
RUNNERS = {32: COMPILED, 256: OURS}
"""The runner for each number of environments."""
EPSILON = 0.05


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sampling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of each loop")
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    figures: dict[str, float] = {}
    peers: dict[str, float] = {}
    speeds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for size, runner in RUNNERS.items():
        turns = take_turns(size, options.seconds, options.turns)
        for name, of_name in speeds.items():
            of_name.append(median(turn[name] for turn in turns))
            peers[f"{name.lower().replace(' ', '_')}_steps_s_{size}"] = round(of_name[-1])
        figures[f"ratio_{size}"] = round(median(turn[runner] / turn[RLLIB] for turn in turns), 2)
        figures[f"share_of_bare_{size}"] = round(median(turn[OURS] / turn[BARE] for turn in turns), 3)
        say(f"{size} environments: {peers} {figures}")
    plot(
        "sampling",
        {name: (tuple(RUNNERS), of_name) for name, of_name in speeds.items()},
        "environments",
        "environment steps a second",
    )
    finish("sampling", figures, peers, seeds=1)


def take_turns(size: int, seconds: float, number: int) -> list[dict[str, float]]:
    """Return the environment steps a second of every loop in each turn."""
    with ExitStack() as stack:
        pools = {name: stack.enter_context(process(name, size)) for name in LOOPS}
        for pool in pools.values():
            pool.submit(speed, 0.5).result()
        return [{name: pool.submit(speed, seconds).result() for name, pool in pools.items()} for _ in range(number)]


def process(name: str, size: int) -> ProcessPoolExecutor:
    """Start a loop in a process of its own."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=start, initargs=(name, size))


_here: dict[str, Callable[[], int]] = {}
"""The loop of this process."""


def start(name: str, size: int) -> None:
    """Make a loop in this process."""
    torch.set_num_threads(1)
    _here["loop"] = LOOPS[name](size)


def speed(seconds: float) -> float:
    """Return the environment steps a second that this process's loop makes in about so many seconds."""
    start, steps = process_time(), 0
    while process_time() - start < seconds:
        steps += _here["loop"]()
    return steps / (process_time() - start)


def config(size: int, compiled: bool = False) -> DQNConfig:
    """Return the configuration that all runners are made by."""
    made: DQNConfig = (
        DQNConfig()
        .environment("raycommend/Shop-v0")
        .env_runners(num_envs_per_env_runner=size, rollout_fragment_length=20)
        .training(compile_network=compiled)
        .debugging(seed=0)
    )
    return made


def ours(size: int, compiled: bool = False) -> Callable[[], int]:
    """Return a loop of our runner."""
    runner = BatchedEnvRunner(config=config(size, compiled))
    runner.module.epsilon.fill_(EPSILON)  # type: ignore[attr-defined]

    def loop() -> int:
        steps = len(runner.sample())
        runner.get_metrics()
        return steps

    return loop


def stock(size: int) -> Callable[[], int]:
    """Return a loop of RLlib's runner."""
    settings = config(size).environment(lambda _: SingleEnv(Shop(1))).env_runners(env_runner_cls=SingleAgentEnvRunner)
    runner = SingleAgentEnvRunner(config=settings)
    runner.module.epsilon.fill_(EPSILON)

    def loop() -> int:
        episodes = runner.sample(num_timesteps=20 * size)
        runner.get_metrics()
        return sum(len(episode) for episode in episodes)

    return loop


def bare(size: int) -> Callable[[], int]:
    """Return a loop of the simulator's step and the network's forward pass."""
    runner = BatchedEnvRunner(config=config(size))
    policy = runner.module.acting_policy()
    assert isinstance(policy, TransformerPolicy)
    env, actions = Shop(size), np.random.default_rng(0).integers(10, size=(20, size))
    observation, _ = env.reset(seed=0)

    def loop() -> int:
        nonlocal observation
        with torch.inference_mode():
            for action in actions:
                policy.network(*tensors(Query.of(observation)))
                observation, *_ = env.step(action)
        return actions.size

    return loop


LOOPS: dict[str, Callable[[int], Callable[[], int]]] = {
    OURS: ours,
    COMPILED: partial(ours, compiled=True),
    RLLIB: stock,
    BARE: bare,
}
"""How each loop is made for a number of environments."""


if __name__ == "__main__":
    main()
