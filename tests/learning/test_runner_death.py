"""A runner that dies takes with it what it was about to hand over, and nothing else."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from rl.algorithms.dqn.algorithm import DQN
from tests.support.slow import NAME
from tests.support.small_dqn import small_dqn

RUNNERS, ENVS, FRAGMENT = 3, 4, 10  # the episodes of a small DQN's runner are four
SAMPLED = ENVS * FRAGMENT


def process_id(runner: Any) -> int:
    return os.getpid()


def epsilon(runner: Any) -> float:
    return float(runner.module.epsilon)


@pytest.mark.slow
def test_the_death_of_a_runner_costs_its_fragment_only(ray_local: None) -> None:
    """Killed 100 ms into a fragment of 200: what the others sampled counts, once; another takes its place."""
    config = small_dqn(RUNNERS, rounds_per_iteration=1).environment(NAME)
    algorithm: DQN = config.env_runners(rollout_fragment_length=FRAGMENT).build_algo()
    runners = algorithm.env_runner_group
    try:
        for number in (1, 2):
            algorithm.train()
            assert algorithm.env_steps == len(algorithm.replay) == number * RUNNERS * SAMPLED
        first, *others = runners.foreach_env_runner(process_id, local_env_runner=False)
        threading.Timer(0.1, os.kill, (first, signal.SIGKILL)).start()
        before = algorithm.env_steps
        algorithm.train()
        assert algorithm.env_steps == len(algorithm.replay) == before + (RUNNERS - 1) * SAMPLED

        deadline = time.monotonic() + 120
        while True:
            before = algorithm.env_steps
            algorithm.train()
            sampled = (algorithm.env_steps - before) // SAMPLED
            assert sampled in (RUNNERS - 1, RUNNERS)  # nobody waits for the one that starts
            assert algorithm.env_steps == len(algorithm.replay)
            if sampled == RUNNERS:
                break
            assert time.monotonic() < deadline, "it is not back"
        now = runners.foreach_env_runner(process_id, local_env_runner=False)
        assert len({*now} & {*others}) == RUNNERS - 1
        assert first not in now
        algorithm.train()
        algorithm.train()  # a weight that is sent is there after the next
        assert len(set(runners.foreach_env_runner(epsilon, local_env_runner=False))) == 1
    finally:
        algorithm.stop()
