"""A/B tests that are looked at each hour: winners that are none, and how soon what is worse is switched off.

Users come at random over the days, half of them known from before, and come back for some days at rates of their own;
each has a propensity to click of their own (beta distributed), so that decisions of one user hang together and a user's
past tells something of what comes. All are read by `rl.evaluation.abtests.reading` with its defaults.

- `false_winners`: 400 tests of a control and two arms that are all the same, a look each hour over two weeks: the share
  in which an arm is ever said to be better. `false_off` is that of arms switched off, `false_any` of either; each with
  its standard error. Of a look at 95 % intervals each hour instead, `naive_any`.
- `off_samples_ratio`: tests of an arm that earns 10 % less, decisions of both until it is switched off, on average over
  tests; divided by those of a fixed test that is planned for it: two-sided at .05, power .8, with the same adjustment.
  Its size is where the standard error, on average, is the effect over 1.96 + .84; its power there is measured.
  A test in which it never is counts with all its decisions; `never_off` is their share.
- `rolled_back`: probations of a new champion that earns 10 % less than the former one, which keeps its share of the
  users meanwhile: how many end in a rollback. `false_rolled_back` is of new champions that earn the same.

    python -m tests.bench.abtest --tests 400
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from rl.evaluation.abtests.comparison import sums_of
from rl.evaluation.abtests.estimates.planning import read_fixed
from rl.evaluation.abtests.reading import Reading
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.abtests.units import GOAL, Exposures
from rl.policy.arrays import FloatArray, IntArray
from tests.bench.common import finish, plot, say

T = TypeVar("T")

START = datetime(2026, 11, 2, tzinfo=UTC)
_HOUR_US = 3_600_000_000
CLICK, CONCENTRATION = 0.1, 20.0
"""Mean and concentration of the beta distribution of users' clicks: a standard deviation of .065."""
VISITS_A_DAY = 1.0
"""Mean of the gamma distribution (shape .5) of users' visits a day, beside the one by which they first come."""
STAYS_DAYS = 4.0
"""Mean of how long a user goes on coming."""
KNOWN = 0.5
"""Users with two weeks of past."""
Z = 1.959964
FIXED = Z + 0.841621
"""Standard errors of an effect that a two-sided test at .05 sees with a power of .8."""


@dataclass(frozen=True)
class Traffic:
    """Decisions of one test, in the order of time; arrays have a row for each."""

    hour: IntArray
    exposures: Exposures

    def until(self, hour: int, before: int) -> Exposures:
        """Return those from one hour until another."""
        low, high = np.searchsorted(self.hour, [before, hour])
        rows, at = self.exposures, slice(int(low), int(high))
        assert rows.past is not None, "it was simulated"
        assert rows.past_decisions is not None, "it was simulated"
        return Exposures(
            rows.time_us[at],
            rows.unit[at],
            rows.variant[at],
            {name: values[at] for name, values in rows.metrics.items()},
            rows.past[at],
            rows.past_decisions[at],
        )


def simulate(
    rng: np.random.Generator, users: int, days: int, shares: Mapping[str, float], worth: Mapping[str, float]
) -> Traffic:
    """Return the traffic of a test.

    Args:
        rng: of all.
        users: who come over the days.
        days: how long it goes on.
        shares: of the variants.
        worth: what each variant's clicks are multiplied by.
    """
    hours = 24 * days
    names, of = list(shares), rng.choice(len(shares), users, p=list(shares.values()))
    click = rng.beta(CLICK * CONCENTRATION, (1 - CLICK) * CONCENTRATION, users)
    rate = rng.gamma(0.5, VISITS_A_DAY / 24 / 0.5, users)
    begins = rng.uniform(0, hours, users)
    ends = np.minimum(begins + rng.exponential(24 * STAYS_DAYS, users), hours)
    known = rng.random(users) < KNOWN
    visits = rng.poisson(rate * (ends - begins)) + 1  # the first exposure, and others
    past_decisions = np.where(known, rng.poisson(rate * 24 * 14), 0).astype(np.float64)
    past = rng.binomial(past_decisions.astype(np.int64), click).astype(np.float64)
    user = np.repeat(np.arange(users), visits)
    time = rng.uniform(begins[user], ends[user])
    order = np.argsort(time)
    user, time = user[order], time[order]
    chance = click[user] * np.array([worth.get(name, 1.0) for name in names])[of[user]]
    clicks = (rng.random(len(user)) < chance).astype(np.float64)
    unit, variant = np.arange(users).astype(np.str_)[user], np.array(names)[of[user]]
    time_us = (time * _HOUR_US).astype(np.int64) + int(START.timestamp() * 1e6)
    rows = Exposures(time_us, unit.tolist(), variant.tolist(), {GOAL: clicks}, past[user], past_decisions[user])
    return Traffic(time.astype(np.int64), rows)


@dataclass(frozen=True)
class Test:
    """What became of a test; arrays have a row for each look."""

    better: bool
    """A variant was ever said to be better."""
    off: int
    """How many decisions of all variants there had been when the first was switched off; 0: none was."""
    naive: bool
    """An interval for one look excluded 0 at some look."""
    deviations: FloatArray
    """Standard error of the first variant's difference; infinite where nothing is said yet."""
    decisions: FloatArray
    """Of all variants."""


def run(
    seed: int, users: int, days: int, shares: Mapping[str, float], worth: Mapping[str, float], stop: bool = False
) -> Test:
    """Run a test with a look each hour; `stop` ends it where a variant is switched off."""
    with threadpool_limits(1, "blas"):
        traffic = simulate(np.random.default_rng(seed), users, days, shares, worth)
        reading = Reading(list(shares), next(iter(shares)), ReadSpec())
        better, off, naive, deviations, decisions = False, 0, False, list[float](), list[float]()
        for hour in range(1, 24 * days + 1):
            reading.add(traffic.until(hour, hour - 1))
            card = reading.read([(START, shares)], plan=False)
            shown = sum(arm.decisions for arm in card.arms)
            better = better or bool(card.decision.better)
            off = off or (shown if card.switch_off else 0)
            known = [(row.difference.value, row.deviation) for row in card.rows if row.difference and row.deviation]
            naive = naive or any(abs(value) > Z * deviation for value, deviation in known)
            deviations.append(known[0][1] if known else np.inf)
            decisions.append(float(shown))
            if stop and off:
                break
        return Test(better, off, naive, np.array(deviations), np.array(decisions))


def sees_at(
    hour: int, seed: int, users: int, days: int, shares: Mapping[str, float], worth: Mapping[str, float]
) -> bool:
    """Return whether tea-tasting sees a difference at one look."""
    traffic = simulate(np.random.default_rng(seed), users, days, shares, worth)
    control, variant = shares
    reading = Reading([control, variant], control, ReadSpec())
    reading.add(traffic.until(hour, 0))
    one, other = (sums_of(reading.units, name, GOAL, reading.spec) for name in (control, variant))
    return read_fixed(one, other).pvalue < 0.05


def share(outcomes: Sequence[bool]) -> tuple[float, float]:
    """Return a share with its standard error, of at least half an outcome."""
    n, of = len(outcomes), float(np.mean(outcomes))
    at = min(max(of, 0.5 / n), 1 - 0.5 / n)
    return of, float(np.sqrt(at * (1 - at) / n))


THIRDS = {"control": 1 / 3, "one": 1 / 3, "other": 1 / 3}
HALVES = {"control": 0.5, "worse": 0.5}
PROBATION = {"former": 0.1, "champion": 0.9}
WORSE = 0.9


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=400, help="simulated tests of each kind (default: 400)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    n = options.tests
    with get_context("spawn").Pool(options.jobs) as pool:

        def of(kind: int, work: Callable[[int], T]) -> list[T]:
            return pool.map(work, range(kind * 1_000_000, kind * 1_000_000 + n), chunksize=1)

        same = of(1, partial(run, users=20_000, days=14, shares=THIRDS, worth={}))
        winners, off, either = (
            share([test.better for test in same]),
            share([bool(test.off) for test in same]),
            share([test.better or bool(test.off) for test in same]),
        )
        naive = share([test.naive for test in same])
        say(f"no difference: winners {winners}, switched off {off}, either {either}; naive {naive}")

        worse = of(2, traffic := partial(run, users=60_000, days=14, shares=HALVES, worth={"worse": WORSE}, stop=True))
        planned = (1 - WORSE) * CLICK / FIXED
        longest = max(len(test.deviations) for test in worse)
        mean = [np.mean([test.deviations[at] for test in worse if len(test.deviations) > at]) for at in range(longest)]
        hour = int(np.argmax(np.array(mean) <= planned))  # of tests that go on by then
        size = float(np.mean([test.decisions[hour] for test in worse if len(test.decisions) > hour]))
        of_all = {name: value for name, value in traffic.keywords.items() if name != "stop"}
        power = share(of(2, partial(sees_at, hour + 1, **of_all)))
        ends = np.array([test.off or test.decisions[-1] for test in worse])
        say(f"fixed: {size:,.0f} decisions after {hour + 1} hours, power {power}; of it {ends / size}")

        promoted = partial(run, users=120_000, days=14, shares=PROBATION, stop=True)
        rolled = share([bool(test.off) for test in of(3, partial(promoted, worth={"champion": WORSE}))])
        kept = share([bool(test.off) for test in of(4, partial(promoted, worth={}))])
        say(f"rolled back {rolled}, of no worse ones {kept}")
    figures = {
        "false_winners": winners[0],
        "false_winners_error": winners[1],
        "false_off": off[0],
        "false_any": either[0],
        "false_any_error": either[1],
        "off_samples_ratio": float(np.mean(ends)) / size,
        "off_samples_ratio_median": float(np.median(ends)) / size,
        "never_off": float(np.mean([not test.off for test in worse])),
        "rolled_back": rolled[0],
        "false_rolled_back": kept[0],
    }
    peers = {"naive_any": naive[0], "fixed_decisions": size, "fixed_power": power[0]}
    draw(ends, size)
    finish(
        "abtest",
        {name: round(value, 4) for name, value in figures.items()},
        {name: round(value, 4) for name, value in peers.items()},
        n,
    )


def draw(ends: FloatArray, size: float) -> None:
    """Draw the share of tests in which the worse arm is off, by decisions over those of the fixed test."""
    at = np.sort(ends) / size
    plot(
        "abtest", {"switched off": (at.tolist(), (np.arange(len(at)) / len(at)).tolist())}, "decisions / fixed", "share"
    )


if __name__ == "__main__":
    main()
