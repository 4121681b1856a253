"""Vowpal Wabbit as a peer: SquareCB over actions, learning from every interaction before the next one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import vowpalwabbit

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import Query
from rl.simulators.bandits.contextual import ContextualBandit
from tests.bench.bandits import Played, play


def play_vw(
    arguments: str, env: ContextualBandit, n: int, seed: int, text: Callable[[Query], str], most: float = 0.0
) -> Played:
    """Let VW play an environment of one context at a time.

    Args:
        arguments: of VW, beside those that make it SquareCB.
        env: the simulator.
        n: interactions.
        seed: of the simulator, of VW, and of the draws from VW's distributions.
        text: gives the features of the context in VW's format.
        most: a reward costs this less the reward. It matters: VW expects 0 of what it has not seen.
    """
    assert env.num_envs == 1, "VW answers one request at a time"
    vw = vowpalwabbit.Workspace(f"--cb_explore_adf --squarecb {arguments} --quiet --random_seed {seed + 1}")
    rng = np.random.default_rng([seed, 2])
    chosen: list[tuple[list[str], int, float]] = []

    def act(query: Query) -> IntArray:
        lines = [f"shared {text(query)}", *(f"|a a={item}" for item in query.items[0])]
        p = _with_example(vw, lines, vw.predict)
        position = int(rng.choice(len(p), p=np.array(p) / np.sum(p)))
        chosen[:] = [(lines, position, p[position])]
        return np.array([position])

    def learn(rewards: FloatArray) -> None:
        lines, position, p = chosen[0]
        lines[position + 1] = f"0:{most - rewards[0]}:{p} {lines[position + 1]}"
        _with_example(vw, lines, vw.learn)

    played = play(env, n, seed, act, learn)
    vw.finish()
    return played


def numbers(query: Query) -> str:
    """Return the features of the context by their number, without zeros."""
    return "|s " + " ".join(f"{i}:{value:.6g}" for i, value in enumerate(query.features[0, 0]) if value)


def _with_example(vw: Any, lines: list[str], use: Callable[[Any], Any]) -> Any:
    example = vw.parse(lines, vowpalwabbit.LabelType.CONTEXTUAL_BANDIT)
    result = use(example)
    vw.finish_example(example)
    return result
