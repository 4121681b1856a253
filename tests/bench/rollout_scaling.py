"""Do runners scale? `python -m tests.bench.rollout_scaling [--seconds S] [--turns N]`.

The shop's training by `rl/experiments/shop.toml` with 1, 2, 4 and 8 runners of 32 environments, in a simulator that
takes 20 ms for each step of all 32 (`tests.support.slow`), as one does that is asked over a network. In each runner
the transformer decides; what it sees goes to the trainer, which keeps it, and the weights to the runners. The trainer
makes no updates, as in the first steps of any training: they take of the cores that the runners play on, however many
run.

`efficiency_8` is env steps a second of 8 runners over 8 times those of one, medians of turns. One is measured first
and last, after the others have ended. Peers: the CPU milliseconds of a runner for a step of its 32 environments, of
the trainer for the same, and env steps a second.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

import psutil
import ray
import torch
from threadpoolctl import threadpool_limits

from rl.algorithms.dqn.algorithm import DQN
from rl.config import parse_config
from rl.training.kinds.dqn import DQNExperiment
from rl.training.run.session import quiet
from tests.bench.common import finish, plot, say
from tests.support.slow import NAME

RUNNERS, ENVS = (1, 2, 4, 8), 32
_NEVER = 10**9


@dataclass(frozen=True)
class Speed:
    """What came of one turn."""

    steps_s: float
    runner_ms: float
    """CPU of a runner for a step of all its environments."""
    trainer_ms: float


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rollout_scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each number of runners in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--fragment", type=int, help="steps that a runner takes at once; default: the experiment's")
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    ray.init("local", num_cpus=RUNNERS[-1], include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    found: dict[int, list[Speed]] = {number: [] for number in RUNNERS}
    with threadpool_limits(1):
        algorithm = build(options.fragment)
        for number in (*RUNNERS, RUNNERS[0]):
            resize(algorithm, number)
            found[number] += [measure(algorithm, options.seconds) for _ in range(options.turns)]
            say(f"{number} runners: {found[number][-options.turns :]}")
        algorithm.stop()
    ray.shutdown()
    peers: dict[str, float] = {}
    for number, speeds in found.items():
        peers[f"steps_s_{number}"] = round(median(speed.steps_s for speed in speeds))
        peers[f"runner_ms_{number}"] = round(median(speed.runner_ms for speed in speeds), 2)
        peers[f"trainer_ms_{number}"] = round(median(speed.trainer_ms for speed in speeds), 3)
    speeds_of = [peers[f"steps_s_{number}"] for number in RUNNERS]
    ideal = [number * speeds_of[0] for number in RUNNERS]
    figures = {f"efficiency_{n}": round(s / i, 3) for n, s, i in zip(RUNNERS, speeds_of, ideal, strict=True) if n > 1}
    curves = {"ours": (RUNNERS, speeds_of), "in proportion": (RUNNERS, ideal)}
    plot("rollout_scaling", curves, "runners", "env steps a second")
    finish("rollout_scaling", figures, peers, seeds=1)


def build(fragment: int | None) -> DQN:
    """Make the trainer with one runner."""
    wanted = ["--environment.name", NAME, "--runners", "1", "--envs_per_runner", str(ENVS)]
    config = parse_config(DQNExperiment, ["rl/experiments/shop.toml", *wanted]).algorithm()
    config.training(learning_starts=_NEVER)
    if fragment:
        config.env_runners(rollout_fragment_length=fragment)
    algorithm: DQN = config.build_algo()
    return algorithm


def resize(algorithm: DQN, number: int) -> None:
    """Start runners or end some, until there are so many, and let them begin."""
    group = algorithm.env_runner_group
    if (missing := number - group.num_remote_workers()) > 0:
        group.add_workers(missing, validate=True)
    for _ in range(-missing):
        ray.kill(group._worker_manager.remove_actor(group._worker_manager.actor_ids()[-1]))
    for _ in range(2):
        algorithm.train()


def measure(algorithm: DQN, seconds: float) -> Speed:
    """Let one trainer and its runners play for some seconds."""
    processes = [psutil.Process(pid) for pid in runner_processes(algorithm)]
    before, steps, cpu, began = cpu_s(processes), algorithm.env_steps, process_time(), perf_counter()
    while perf_counter() - began < seconds:
        algorithm.train()
    took, taken = perf_counter() - began, algorithm.env_steps - steps
    vector_steps = taken / ENVS
    return Speed(
        taken / took,
        (cpu_s(processes) - before) / vector_steps * 1e3,
        (process_time() - cpu) / vector_steps * 1e3,
    )


def runner_processes(algorithm: DQN) -> list[int]:
    """Return the ids of the runners' processes."""
    found: list[int] = algorithm.env_runner_group.foreach_env_runner(process_id, local_env_runner=False)
    return found


def process_id(runner: object) -> int:
    """Return the id of this process."""
    import os

    return os.getpid()


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Return the CPU seconds that processes have used so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main()
