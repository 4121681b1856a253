"""The simulators against their own probabilities, against brute force, and against toy shops."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pytest

from data.attribution.join import attribute
from data.errors import DataError
from data.features.customers import Encoder, EncoderConfig, fit
from data.features.rfm import STATES_PER_SEGMENT
from data.ingest.clean import clean
from data.nodes.node import load_node
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.experience.events import generated_events
from rl.policies.baselines import Random
from rl.policy.queries import Query
from rl.simulators.market.fitted import FittedMarketConfig, fit_market
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market, generate_transactions
from rl.simulators.market.market import (
    Market,
    reward_levels,
    shift_appeal,
    to_months,
)
from rl.simulators.market.retail import RetailEnv
from rl.simulators.play import interact
from tests.support.markets import four_errors, purchases, random_encoder, tiny_market

MARKET = tiny_market(np.random.default_rng(0))
VISITS = 100_000
DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
SPECS = [
    RewardSpec(),
    RewardSpec(default=-0.5),
    *(RewardSpec(aggregation=aggregation, default=0.25) for aggregation in ("first", "sum", "mean")),
]


def test_click_probability_by_hand() -> None:
    """Utility 0.5 + 1 - 0.25 + 0.75 = 2 for the second customer in March."""
    market = Market(
        items=("i",),
        users=("u", "v"),
        activity=np.array([0.5, 0.5]),
        appeal=np.array([0.5]),
        taste=np.array([[7.0], [1.0]]),
        season=np.array([[9.0]] * 2 + [[-0.25]] + [[9.0]] * 9),
        segment=np.array([0, 1]),
        segment_taste=np.array([[8.0], [0.75]]),
        buy_given_click=np.array([0.5]),
        prices=np.array([1.0]),
    )
    assert market.utilities(np.array([1]), np.array([2])).tolist() == [[2.0]]
    assert market.click_probabilities(np.array([1]), np.array([2]))[0, 0] == pytest.approx(0.880797077978)


def test_responses_come_as_often_as_their_probabilities_say() -> None:
    user, month, slate = 1, 6, [2, 0, 3]
    everyone = np.full(VISITS, user), np.full(VISITS, month), np.tile(slate, (VISITS, 1))
    clicked, bought = MARKET.respond(*everyone, np.random.default_rng(1))
    assert not (bought & ~clicked).any()
    p_click = MARKET.click_probabilities(np.array([user]), np.array([month]))[0, slate]
    p_both = p_click * MARKET.buy_given_click[slate]
    assert (np.abs(clicked.mean(axis=0) - p_click) <= four_errors(p_click, VISITS)).all()
    assert (np.abs(bought.mean(axis=0) - p_both) <= four_errors(p_both, VISITS)).all()
    together = p_click[0] * p_click[1]  # slots do not influence each other
    assert abs((clicked[:, 0] & clicked[:, 1]).mean() - together) <= four_errors(together, VISITS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.aggregation} {spec.default}")
def test_expected_rewards_are_the_mean_of_the_rewards(spec: RewardSpec) -> None:
    user, month = 2, 11
    everyone = np.full(VISITS, user), np.full(VISITS, month), np.tile(np.arange(4), (VISITS, 1))
    clicked, bought = MARKET.respond(*everyone, np.random.default_rng(2))
    nothing, click, purchase = reward_levels(spec)
    rewards = np.select([bought, clicked], [purchase, click], nothing)
    expected = MARKET.expected_rewards(np.array([user]), np.array([month]), spec)[0]
    errors = 4 * rewards.std(axis=0) / np.sqrt(VISITS)
    assert (np.abs(rewards.mean(axis=0) - expected) <= errors).all()


PARTIAL = [  # what has no weight earns nothing
    RewardSpec(weights=weights, default=0.25) for weights in ({"click": 2.0}, {"purchase": 5.0}, {"rating": 1.0})
]


@pytest.mark.parametrize("spec", [*SPECS, *PARTIAL], ids=lambda spec: f"{spec.aggregation} {spec.default}")
@pytest.mark.parametrize("kinds", [(), ("click",), ("click", "purchase")])
def test_reward_levels_are_those_of_attribution(spec: RewardSpec, kinds: tuple[str, ...]) -> None:
    now = datetime(2011, 5, 1, tzinfo=UTC)
    decision = Decision(
        decision_id="d",
        time=now,
        candidates=("i1",),
        slate=("i1",),
        propensities=(1.0,),
        scores=(0.0,),
        policy="p",
        policy_version="p-1",
    )
    reports = [Feedback(feedback_id=kind, decision_id="d", item_id="i1", kind=kind, received_at=now) for kind in kinds]
    assert attribute(decision, reports, spec, now).rewards == (reward_levels(spec)[len(kinds)],)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("spec", SPECS[:3], ids=lambda spec: f"{spec.aggregation} {spec.default}")
def test_ceilings_equal_those_of_all_slates(spec: RewardSpec, k: int) -> None:
    slates = [list(slate) for slate in combinations(range(4), k)]
    oracle, of_slate = 0.0, np.zeros(len(slates))
    for month, days in enumerate(DAYS):
        for user, share in enumerate(MARKET.activity):
            rewards = MARKET.expected_rewards(np.array([user]), np.array([month]), spec)[0]
            earned = np.array([rewards[slate].sum() for slate in slates])
            oracle += days / 365 * share * earned.max()
            of_slate += days / 365 * share * earned
    expected = {"oracle": oracle, "random": of_slate.mean(), "fixed": of_slate.max()}
    assert MARKET.ceilings(k, spec) == pytest.approx(expected)


@pytest.mark.parametrize("click_rate", [0.001, 0.0743, 0.9])
def test_a_shifted_market_has_the_click_rate(click_rate: float) -> None:
    market = shift_appeal(MARKET, click_rate)
    rates = [
        share * market.click_probabilities(np.array([user]), np.array([month])).mean() / 12
        for user, share in enumerate(market.activity)
        for month in range(12)
    ]
    assert sum(rates) == pytest.approx(click_rate, rel=1e-6)
    np.testing.assert_allclose(np.diff(market.appeal), np.diff(MARKET.appeal))


def test_visits_are_by_activity_and_all_over_the_year() -> None:
    users, times = MARKET.sample_visits(20_000, np.random.default_rng(3))
    shares, days = np.bincount(users) / 20_000, np.array(DAYS) / 365
    assert (np.abs(shares - MARKET.activity) <= four_errors(MARKET.activity, 20_000)).all()
    assert (np.abs(np.bincount(to_months(times)) / 20_000 - days) <= four_errors(days, 20_000)).all()
    assert {time.year for time in times} == {2011}
    assert len({time.hour for time in times}) == 24


def test_months_of_the_days_of_a_year() -> None:
    start = datetime(2011, 1, 1, tzinfo=UTC)
    assert np.bincount(to_months([start + timedelta(days=day) for day in range(365)])).tolist() == DAYS


# Generated shops


def test_a_generated_market_has_the_sizes_and_the_click_rate() -> None:
    config = GeneratedMarketConfig(users=30, items=24, kinds=4, click_rate=0.1)
    market = generate_market(config, np.random.default_rng(0))
    assert (len(market.users), len(market.items)) == (30, 24)
    assert market.activity.sum() == pytest.approx(1.0)
    clicks = RewardSpec(weights={"click": 1.0, "purchase": 1.0})
    assert market.ceilings(1, clicks)["random"] == pytest.approx(0.1, abs=0.003)  # over days, not over months


@pytest.mark.heavy
def test_transactions_have_the_columns_and_the_flaws_of_online_retail() -> None:
    """Shares of 0.249, 0.004, 0.016 and 0.001 of the lines before the 1 % of duplicates, within four errors."""
    market = generate_market(GeneratedMarketConfig(), np.random.default_rng(0))
    frame = generate_transactions(market, 5_000, np.random.default_rng(1))
    assert list(frame.columns) == [
        "InvoiceNo",
        "StockCode",
        "Description",
        "Quantity",
        "InvoiceDate",
        "UnitPrice",
        "CustomerID",
        "Country",
    ]
    lines = frame.drop_duplicates()
    flaws = {
        "customer present": lines["CustomerID"].isna(),
        "goods code": lines["StockCode"] == "POST",
        "quantity > 0": lines["Quantity"] <= 0,
        "unit price > 0": lines["UnitPrice"] <= 0,
    }
    for (name, flawed), share in zip(flaws.items(), (0.249, 0.004, 0.016, 0.001), strict=True):
        assert abs(flawed.mean() - share) <= four_errors(np.array(share), len(lines)), name
    assert len(frame) - len(lines) == pytest.approx(0.01 * len(lines), abs=1)
    lines_of_an_invoice = lines.groupby("InvoiceNo").size()
    assert (lines_of_an_invoice.min(), lines_of_an_invoice.max()) == (1, 8)

    cleaned = clean(pa.Table.from_pandas(lines, preserve_index=False), load_node("online_retail"), "generated")
    assert cleaned.rejected == {name: int(flawed.sum()) for name, flawed in flaws.items()}


def test_generated_events_are_the_good_lines_once() -> None:
    market = generate_market(GeneratedMarketConfig(users=40, items=20), np.random.default_rng(0))
    frame = generate_transactions(market, 300, np.random.default_rng(1)).drop_duplicates()
    good = frame[
        frame["CustomerID"].notna()
        & (frame["StockCode"] != "POST")
        & (frame["Quantity"] > 0)
        & (frame["UnitPrice"] > 0)
    ]
    events = generated_events(market, 300, np.random.default_rng(1))
    columns = ["session", "item_id", "user_id", "outcome", "price"]
    found = sorted(tuple(row.values()) for row in events.select(columns).to_pylist())
    expected = zip(
        good["InvoiceNo"],
        good["StockCode"],
        good["CustomerID"].astype(str),
        good["Quantity"].astype(float),
        good["UnitPrice"],
        strict=True,
    )
    assert found == sorted(expected)
    assert events["event_id"].to_pylist() == sorted(events["event_id"].to_pylist())


@pytest.mark.heavy
def test_customers_buy_what_they_would_click() -> None:
    """In 5,000 invoices the best-loved fifth of a customer's items sells over twice as often as the least-loved."""
    market = generate_market(GeneratedMarketConfig(users=10, items=20), np.random.default_rng(0))
    events = generated_events(market, 5_000, np.random.default_rng(1)).to_pandas()
    bought = events.groupby(["user_id", "item_id"]).size().unstack(fill_value=0)
    bought = bought.reindex(index=list(market.users), columns=list(market.items), fill_value=0).to_numpy()
    liked = np.mean([market.click_probabilities(np.arange(10), np.full(10, m)) for m in range(12)], axis=0)
    order = np.argsort(liked, axis=1)
    sold = np.take_along_axis(bought, order, axis=1).sum(axis=0)
    assert sold[-4:].sum() > 2 * sold[:4].sum()


# Fitted markets

TOY_ITEMS = ("candle", "jar", "lamp", "mug", "star")
TOY_USERS = tuple(f"u{n}" for n in range(8))
DECEMBER = 4  # months after August


def toy_events() -> pa.Table:
    """Everyone buys something each month, a mug once and a star in December; u0 buys a mug at each of their visits."""
    lines: list[tuple[str | None, str, float, str]] = []
    for user in TOY_USERS:
        for month in range(5):  # August to December
            session = f"{user}-{month}"
            bought = [TOY_ITEMS[:3][(int(user[1:]) + month) % 3]]
            bought += ["star"] if month == DECEMBER else []
            bought += ["mug"] if user == "u0" or month == int(user[1:]) % 5 else []
            lines += [(user, item, 31.0 * month, session) for item in bought]
    return purchases(lines)


def fitted(events: pa.Table, config: FittedMarketConfig | None = None) -> tuple[Market, Encoder]:
    encoder = fit(events, EncoderConfig(rank=2))
    return fit_market(events, encoder, config or FittedMarketConfig(rank=2, pseudo_counts=1.0)), encoder


def test_what_sells_in_december_has_a_december_season() -> None:
    market, _ = fitted(toy_events())
    star = market.season[:, market.items.index("star")]
    assert star[11] > 0.5
    assert (star[7:11] < -0.5).all()
    np.testing.assert_allclose(star[:7], 0.0, atol=1e-12)  # nothing sold at all: no season


def test_season_by_hand() -> None:
    """The log of (sold + 1) / (expected + 1): a star is 8 of the December lines and of all lines."""
    events = toy_events()
    market, _ = fitted(events)
    lines = events.to_pandas()
    december = lines["time"].dt.month == 12
    expected = december.sum() * (lines["item_id"] == "star").sum() / len(lines)
    assert market.season[11, market.items.index("star")] == pytest.approx(np.log((8 + 1) / (expected + 1)))


def test_a_habit_is_the_highest_taste() -> None:
    market, encoder = fitted(toy_events())
    assert market.users == encoder.users
    assert market.items[int(market.taste[0].argmax())] == "mug"
    mug = market.taste[:, market.items.index("mug")]
    assert mug.argmax() == 0


def test_habit_by_hand() -> None:
    """With no low-rank part, a mug bought 5 times is worth log2(6) and one bought once is worth 1."""
    market, _ = fitted(toy_events(), FittedMarketConfig(rank=2, taste=0.0, habit=1.0))
    mug = market.taste[:, market.items.index("mug")]
    assert mug[0] == pytest.approx(np.log2(6))
    np.testing.assert_allclose(mug[1:], 1.0)


def test_a_fitted_market_has_the_customers_visits_and_the_click_rate() -> None:
    market, encoder = fitted(toy_events())
    np.testing.assert_allclose(market.activity, 1 / 8)  # five visits each
    np.testing.assert_array_equal(market.segment, encoder.user_segments[1:])
    clicks = RewardSpec(weights={"click": 1.0, "purchase": 1.0})
    assert market.ceilings(1, clicks)["random"] == pytest.approx(0.0743, abs=0.002)  # over days, not over months
    assert market.prices.tolist() == [2.0] * 5


def test_purchases_unknown_to_the_encoder_are_left_out() -> None:
    encoder = fit(toy_events(), EncoderConfig(rank=2))
    more = [("zoe", "mug", 1.0, "z"), ("u0", "vase", 0.0, "u0-0")]
    both = pa.concat_tables([toy_events(), purchases(more)])
    config = FittedMarketConfig(rank=2)
    known, market = fit_market(toy_events(), encoder, config), fit_market(both, encoder, config)
    np.testing.assert_allclose(market.taste, known.taste, atol=1e-9)
    np.testing.assert_allclose(market.season, known.season)
    np.testing.assert_allclose(market.activity, known.activity)


def test_a_market_needs_neither_sessions_nor_prices() -> None:
    encoder = fit(toy_events(), EncoderConfig(rank=2))
    market = fit_market(toy_events(), encoder, FittedMarketConfig())
    bare = fit_market(toy_events().drop_columns(["session", "price", "outcome"]), encoder, FittedMarketConfig())
    assert bare.prices.tolist() == [1.0] * 5
    np.testing.assert_array_equal(bare.taste, market.taste)
    assert bare.activity.sum() == pytest.approx(1.0)
    with pytest.raises(DataError, match="no column item_id"):
        fit_market(toy_events().drop_columns(["item_id"]), encoder, FittedMarketConfig())


# The environment

B, K = 6, 2


def env(n: int = B, spec: RewardSpec | None = None) -> RetailEnv:
    encoder = random_encoder(3, 4, 2, np.random.default_rng(0), {(1, 1): 2.0})
    return RetailEnv(MARKET, encoder, num_envs=n, k=K, spec=spec)


def some_slates(steps: int, n: int = B) -> Sequence[np.ndarray]:
    rng = np.random.default_rng(8)
    return [np.array([rng.permutation(4)[:K] for _ in range(n)]) for _ in range(steps)]


def test_observations_and_actions_are_in_their_spaces() -> None:
    world = env()
    assert isinstance(world, gym.vector.VectorEnv)
    observation, _ = world.reset(seed=0)
    assert world.observation_space.contains(observation)
    assert world.action_space.shape == (B, K)
    for slates in some_slates(20):
        assert world.action_space.contains(slates)
        observation, reward, terminated, truncated, info = world.step(slates)
        assert world.observation_space.contains(observation)
        assert reward.shape == terminated.shape == truncated.shape == info["expected"].shape == (B,)
        assert info["rewards"].shape == info["clicked"].shape == info["bought"].shape == (B, K)
        assert terminated.all()
        assert not truncated.any()


def test_a_random_action_is_of_the_action_space() -> None:
    world = env()
    world.action_space.seed(0)
    world.reset(seed=0)
    _, reward, *_ = world.step(world.action_space.sample())
    assert reward.shape == (B,)


def test_same_seed_same_trajectory() -> None:
    def trajectory(seed: int) -> list[np.ndarray]:
        world = env()
        found = list(world.reset(seed=seed)[0].values())
        for slates in some_slates(30):
            observation, reward, _, _, info = world.step(slates)
            found += [*observation.values(), reward, info["clicked"], info["bought"]]
        return found

    one, again, other = trajectory(5), trajectory(5), trajectory(6)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_reset_without_a_seed_goes_on() -> None:
    world = env()
    first, _ = world.reset(seed=5)
    second, _ = world.reset()
    assert not np.array_equal(first["features"], second["features"])


def test_a_list_of_seeds_has_one_for_each_episode() -> None:
    first, again = env().reset(seed=[1, 2, 3, 4, 5, 6])[0], env().reset(seed=[1, 2, 3, 4, 5, 6])[0]
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    with pytest.raises(ValueError, match="seed"):
        env().reset(seed=[1, 2])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.aggregation} {spec.default}")
def test_rewards_are_those_of_what_was_clicked_and_bought(spec: RewardSpec) -> None:
    world = env(n=200, spec=spec)
    world.reset(seed=1)
    _, reward, _, _, info = world.step(some_slates(1, n=200)[0])
    outcomes = info["clicked"].astype(int) + info["bought"]
    np.testing.assert_allclose(info["rewards"], np.array(reward_levels(spec))[outcomes])
    np.testing.assert_allclose(reward, info["rewards"].sum(axis=1))
    assert set(outcomes.ravel()) == {0, 1, 2}


def test_the_expected_reward_is_the_visiting_customers() -> None:
    """Who visits is told by the one item that they bought before, and when by the state."""
    encoder = random_encoder(3, 4, 2, np.random.default_rng(0), {(1, 1): 2.0, (2, 2): 1.0, (3, 4): 5.0})
    world = RetailEnv(MARKET, encoder, num_envs=100, k=K)
    observation, _ = world.reset(seed=0)
    bought = observation["features"][:, :, -2]
    users = np.select([bought[:, 0] == 1, bought[:, 1] == 1, bought[:, 3] == 1], [0, 1, 2])
    months = observation["state"] % STATES_PER_SEGMENT // 14
    slates = some_slates(1, n=100)[0]
    _, _, _, _, info = world.step(slates)
    expected = MARKET.expected_rewards(users, months, RewardSpec())
    np.testing.assert_allclose(info["expected"], np.take_along_axis(expected, slates, axis=1).sum(axis=1))
    assert len(set(users)) == 3
    assert len(set(months)) == 12


def test_observations_are_queries() -> None:
    query = Query.of(env().reset(seed=0)[0])
    assert len(query) == B
    assert query.items.tolist() == [[1, 2, 3, 4]] * B
    assert query.mask.all()


@pytest.mark.heavy
def test_random_earns_what_its_ceiling_says() -> None:
    """The mean expected reward of 40,000 visits is the ceiling within four standard errors."""
    steps = interact(Random(), env(n=200), 200, 0, np.random.default_rng(0))
    expected = np.concatenate([of_step for _, of_step in steps])
    ceiling = MARKET.ceilings(K, RewardSpec())["random"]
    assert abs(expected.mean() - ceiling) <= 4 * expected.std() / np.sqrt(len(expected))
