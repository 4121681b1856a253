"""How fast the whole training loop is: `python -m tests.bench.dqn_loop [--seconds S]`.

The same shop, the same network and the same ratio, one update of 128 transitions for 16 environment steps, discount .9,
in one process with one thread. Beside RLlib's DQN ours does what that does: double Q learning from prioritised replay.
Beside stable-baselines3's it does what that does, a single estimate from uniform replay, with `compile_network`, for
which the other has no setting; how fast it is without is among the peers. RLlib steps one environment
and stable-baselines3 16, each the number that its ratio of updates allows and that is fastest. Every loop is
a process of its own, warmed up until it updates; then they take turns, and a ratio is the median over the turns.
Seconds are CPU seconds of the process, which on a quiet machine are those of the clock.

`share_of_bare_update` is the share of an update that the network's own passes take: the next states through the online
and the averaged network without a gradient, the states with one, and back. The rest is drawing, conversion, target,
loss, optimiser, average and priorities.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from statistics import median

from tests.bench.common import finish, plot
from tests.bench.dqn_loops import LOOPS, OURS_COMPILED, OURS_DOUBLE, RLLIB, SB3, share_of_bare_update, speed, start


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dqn_loop", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn of each loop")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with ExitStack() as stack:
        pools = {name: stack.enter_context(process(name)) for name in LOOPS}
        for pool in pools.values():
            pool.submit(speed, options.seconds).result()
        turns = [
            {name: pool.submit(speed, options.seconds).result() for name, pool in pools.items()}
            for _ in range(options.turns)
        ]
        share = pools[OURS_DOUBLE].submit(share_of_bare_update).result()
    figures = {
        "ratio_rllib": round(median(turn[OURS_DOUBLE] / turn[RLLIB] for turn in turns), 2),
        "ratio_sb3": round(median(turn[OURS_COMPILED] / turn[SB3] for turn in turns), 2),
        "share_of_bare_update": round(share, 3),
    }
    peers = {f"{name} steps/s": float(round(median(turn[name] for turn in turns))) for name in LOOPS}
    curves = {name: (range(1, len(turns) + 1), [turn[name] for turn in turns]) for name in LOOPS}
    plot("dqn_loop", curves, "turn", "environment steps a CPU second, updates included")
    finish("dqn_loop", figures, peers, seeds=1)


def process(name: str) -> ProcessPoolExecutor:
    """Start a loop in a process of its own, as its users would run it."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=start, initargs=(name,))


if __name__ == "__main__":
    main()
