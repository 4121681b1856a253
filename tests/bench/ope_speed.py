"""All estimators on a million decisions: `python -m tests.bench.ope_speed [--decisions N]`.

`ratio` is our rows a second over those of `vw-estimators`, both from propensities, rewards and what the target would do
to the values of IPS and SNIPS; `max_difference` is between these. Peers: `all_rows_s` of all seven estimators, each
with its terms and its default interval, of logs that are checked, with twenty actions.
"""

import argparse
import time

import numpy as np
from estimators.bandits import ips as vw_ips
from estimators.bandits import snips as vw_snips

from rl.evaluation.offpolicy.estimators import ESTIMATORS, ips, snips
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from tests.bench.common import finish
from tests.support.offpolicy import sample, softmax


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.ope_speed", description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    n = parser.parse_args().decisions
    rng = np.random.default_rng(0)
    behaviour, target = (softmax(rng.normal(size=(n, 20))) for _ in range(2))
    chosen = sample(behaviour, rng)
    rewards = (rng.random(n) < 0.3).astype(float)
    propensities = behaviour[np.arange(n), chosen]
    predicted = rng.random((n, 20))
    began = time.perf_counter()
    log = BanditLog(chosen, rewards, propensities, target)
    model = Predictions(log, predicted)
    for estimate in [estimator(model) for estimator in ESTIMATORS.values()]:
        hall(estimate.terms)
    all_s = time.perf_counter() - began
    wanted = log.of_chosen(target)
    log = BanditLog(chosen, rewards, propensities, target)  # one that has not worked out its weights
    began = time.perf_counter()
    ours = {"ips": ips(log).value, "snips": snips(log).value}
    ours_s = time.perf_counter() - began
    began = time.perf_counter()
    peers = {"ips": vw_ips.Estimator(), "snips": vw_snips.Estimator()}
    for logged, reward, of_target in zip(propensities, rewards, wanted, strict=True):
        for peer in peers.values():
            peer.add_example(logged, reward, of_target)
    values = {name: peer.get() for name, peer in peers.items()}
    peer_s = time.perf_counter() - began
    figures = {
        "ratio": round(peer_s / ours_s, 1),
        "max_difference": max(abs(values[name] - ours[name]) for name in values),
    }
    rates = {"rows_s": round(n / ours_s), "vw_rows_s": round(n / peer_s), "all_rows_s": round(n / all_s)}
    finish("ope_speed", figures, rates, 1)


if __name__ == "__main__":
    main()
