"""The wheel bandit: cumulative regret in percent of uniform draws': `python -m tests.bench.wheel [--seeds N]`.

One policy, with the same settings for all five radii: linear Thompson sampling with a model for each arm on random
Fourier features. It is told neither the radius nor the size of the rewards. Its noise is given: what is learned of the
first rewards, which are nearly alike, says nothing of the rare ones that are fifty times as large.
"""

from rl.policies import LinearThompsonConfig
from rl.policies.linear.basis import RandomFourier
from rl.policy.explorers import Votes
from rl.simulators.bandits.wheel import Wheel
from tests.bench.bandits import mean_curve, play_policy, say, seeds_of
from tests.bench.common import finish, plot

DELTAS = (0.5, 0.7, 0.9, 0.95, 0.99)
N, BATCH = 80_000, 32
POLICY = LinearThompsonConfig(
    models="per_item",
    noise_sd=1.0,
    basis=RandomFourier(n=128, length_scale=0.3, also="quadratic"),
    samples=20,
    explorer=Votes(floor=0.0),
)


def main() -> None:
    """Play, and print one JSON object as the last line."""
    seeds = seeds_of("wheel", __doc__)
    figures, curves = {}, {}
    for delta in DELTAS:
        runs = []
        for seed in seeds:
            played = play_policy(POLICY, Wheel(BATCH, delta=delta), N, seed)
            runs.append(played.curve())
            say(f"delta {delta} seed {seed}: regret {played.regret():.3f} % of uniform")
        figures[f"regret_{round(100 * delta)}"] = round(sum(float(run[-1]) for run in runs) / len(runs), 3)
        curves[f"delta {delta}"] = mean_curve(runs)
    plot("wheel", curves, "interactions", "cumulative regret, % of uniform's at the end")
    finish("wheel", figures, {}, len(seeds))


if __name__ == "__main__":
    main()
