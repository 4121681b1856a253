"""A market: customers, items, and the probability that the one wants the other.

It is the truth behind the retail simulator, the demo's traffic and the tests: it knows what the best slate earns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from scipy.optimize import brentq

from data.attribution.join import AGGREGATE
from data.reward import RewardSpec
from rl.policy.arrays import BoolArray, FloatArray, IntArray

MONTHS = 12


@dataclass(frozen=True)
class Market:
    """Customers look at every item of a slate, click what they like and buy some of what they clicked.

    The utility of item n for customer u in month m is
    appeal[n] + taste[u, n] + season[m, n] + segment_taste[segment[u], n]; a click has probability σ(utility), and a
    click becomes a purchase with probability `buy_given_click[n]`. Slots do not influence each other, so the best
    slate is the K items of highest expected reward.
    """

    items: tuple[str, ...]
    """N item ids."""
    users: tuple[str, ...]
    """U customer ids."""
    activity: FloatArray
    """[U] share of the traffic, summing to 1."""
    appeal: FloatArray
    """[N] utility to everyone, in logits."""
    taste: FloatArray
    """[U, N] what each customer likes by himself."""
    season: FloatArray
    """[12, N] what sells in each month."""
    segment: IntArray
    """[U] which group a customer is of."""
    segment_taste: FloatArray
    """[groups, N] what each group likes."""
    buy_given_click: FloatArray
    """[N] probability that a click becomes a purchase."""
    prices: FloatArray
    """[N] unit prices, in the shop's currency; 1 where none is known."""
    kinds: IntArray | None = None
    """[N] which group of similar items an item is of; None: it is not known."""

    def utilities(self, users: IntArray, months: IntArray) -> FloatArray:
        """Return the utility of every item for customers [B] (indices) in months [B] (0 is January), [B, N]."""
        utilities: FloatArray = (
            self.appeal + self.taste[users] + self.season[months] + self.segment_taste[self.segment[users]]
        )
        return utilities

    def click_probabilities(self, users: IntArray, months: IntArray) -> FloatArray:
        """Return the probability of a click on every item, [B, N]."""
        probabilities: FloatArray = 1.0 / (1.0 + np.exp(-self.utilities(users, months)))
        return probabilities

    def respond(
        self, users: IntArray, months: IntArray, slates: IntArray, rng: np.random.Generator
    ) -> tuple[BoolArray, BoolArray]:
        """Draw who clicks and buys what.

        Args:
            users: [B] customer indices.
            months: [B] month indices.
            slates: [B, K] item indices.
            rng: source of the draws.

        Returns:
            clicked and bought, both [B, K]; what is bought was clicked.
        """
        p_click = np.take_along_axis(self.click_probabilities(users, months), slates, axis=1)
        clicked = rng.random(slates.shape) < p_click
        bought = clicked & (rng.random(slates.shape) < self.buy_given_click[slates])
        return clicked, bought

    def expected_rewards(self, users: IntArray, months: IntArray, spec: RewardSpec) -> FloatArray:
        """Return the expected reward of showing each item, [B, N]."""
        p_click, p_buy = self.click_probabilities(users, months), self.buy_given_click
        nothing, click, purchase = reward_levels(spec)
        earned: FloatArray = (1 - p_click) * nothing + p_click * ((1 - p_buy) * click + p_buy * purchase)
        return earned

    def sample_visits(self, n: int, rng: np.random.Generator) -> tuple[IntArray, list[datetime]]:
        """Draw n visits: customers by their activity, at any time of the year 2011."""
        users = rng.choice(len(self.users), size=n, p=self.activity)
        start = datetime(2011, 1, 1, tzinfo=UTC)
        times = [start + timedelta(minutes=int(minute)) for minute in rng.integers(365 * 24 * 60, size=n)]
        return users, times

    def ceilings(self, k: int, spec: RewardSpec) -> dict[str, float]:
        """Return the exact expected reward of a slate of k by the `oracle`, by `random`, and by the best `fixed` slate.

        The mean is over customers by their activity and over days of the year.
        """
        days = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) / 365
        oracle, mean = 0.0, np.zeros(len(self.items))
        everyone = np.arange(len(self.users))
        for month in range(MONTHS):
            rewards = self.expected_rewards(everyone, np.full(len(everyone), month), spec)  # [U, N]
            best = np.sort(rewards, axis=1)[:, -k:].sum(axis=1)
            oracle += days[month] * float(self.activity @ best)
            mean += days[month] * (self.activity @ rewards)
        return {"oracle": oracle, "random": float(k * mean.mean()), "fixed": float(np.sort(mean)[-k:].sum())}


def reward_levels(spec: RewardSpec) -> tuple[float, float, float]:
    """Return the reward of an item that was ignored, clicked, or clicked and bought, under the specification."""
    click = [spec.weights[kind] for kind in ("click",) if kind in spec.weights]
    both = [spec.weights[kind] for kind in ("click", "purchase") if kind in spec.weights]
    aggregate = AGGREGATE[spec.aggregation]
    return spec.default, aggregate(click) if click else spec.default, aggregate(both) if both else spec.default


def to_months(times: Sequence[datetime]) -> IntArray:
    """Return month indices, 0 for January."""
    return np.array([time.month - 1 for time in times], dtype=np.int64)


def shift_appeal(market: Market, click_rate: float) -> Market:
    """Return the market with all appeals shifted so that a random item is clicked with the given mean probability.

    The mean is over customers by their activity, over months and over items; click_rate is in (0, 1).
    """
    everyone = np.arange(len(market.users))
    by_month = [market.utilities(everyone, np.full(len(everyone), month)) for month in range(MONTHS)]

    def excess(shift: float) -> float:
        rates = [market.activity @ (1.0 / (1.0 + np.exp(-(u + shift)))).mean(axis=1) for u in by_month]
        return float(np.mean(rates)) - click_rate

    return replace(market, appeal=market.appeal + brentq(excess, -30.0, 30.0))
