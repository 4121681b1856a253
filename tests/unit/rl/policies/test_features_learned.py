"""Whatever features are let in, every policy encodes, scores and learns: with JSON that nobody thought of."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data.attribution.join import Outcome
from data.feature_objects import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_NUMBER,
    MAX_VALUES,
    FeatureError,
    check_list,
    check_object,
)
from data.schema import Decision, Features, Slot
from rl.encoders.base import VisitEncoder
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.json_features import FeaturesEncoder, add_slot_features, flatten
from rl.encoders.visit import Visit
from rl.online.observe import correct, observe
from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
    build,
)
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Slates
from tests.support.shops import small_market

pytestmark = pytest.mark.heavy

TIME = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = ("20001", "20002", "cold")
CONFIGS: dict[str, PolicyConfig] = {
    "random": RandomConfig(),
    "popularity": PopularityConfig(),
    "rfm_bandit": RFMBanditConfig(),
    "ridge": RidgeConfig(),
    "lin_ucb": LinUCBConfig(),
    "linear_thompson": LinearThompsonConfig(samples=8),
    "per item": LinearThompsonConfig(samples=8, models="per_item"),
    "neural_linear": NeuralLinearConfig(),
    "described": CrossedConfig(samples=8),
    "transformer": TransformerConfig(),
    "slate_transformer": SlateTransformerConfig(),
}

NAMES = st.text(max_size=4) | st.sampled_from(
    ["tags", "", "x.y", "x[0]", "n" * MAX_NAME, "n" * (MAX_NAME + 1), "\ud800"]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from(
        [MAX_NUMBER, -MAX_NUMBER, 10**15 + 1, 1e16, 1.7e308, 10**400, 5e-324, float("nan"), float("-inf")]
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=4)


@cache
def encoders() -> dict[str, VisitEncoder]:
    customers = small_market()[1]
    return {"customers": customers, "catalogue": CatalogueEncoder(ITEMS), "features": FeaturesEncoder(ITEMS)}


def encoder_of(name: str) -> VisitEncoder:
    if name == "described":
        return encoders()["features"]
    return encoders()["catalogue" if "transformer" in name else "customers"]


def untrained(name: str) -> Policy:
    encoder = encoder_of(name)
    return build(CONFIGS[name], encoder.n_features, encoder.n_states, encoder.popularity)


kept = cache(untrained)
"""For policies that do not learn from features: all examples are about one."""


def learn(policy: Policy, encoder: VisitEncoder, features: Features, slots: tuple[Slot, ...] = ()) -> None:
    """Decide, learn what was decided with a reward and a correction, decide again; everything must be finite."""
    asked = [add_slot_features(features, slot) for slot in slots] or [features]
    for _ in range(2):
        for one in asked:
            query = encoder.query([Visit("u", TIME, ITEMS, {}, one)])
            slates = policy.decide(query, 1, np.random.default_rng(0))
            assert np.isfinite(slates.scores).all()
            assert np.isfinite(slates.propensities).all()
            assert np.isfinite(policy.expected(query)).all()
        if not policy.learns:
            return
        bare = Decision.model_construct(
            decision_id="d", user_id="u", time=TIME, candidates=ITEMS, slate=ITEMS[: len(asked)], propensities=(),
            scores=(), policy="p", policy_version="1",
        )  # fmt: skip
        decision = bare.model_copy(update={"features": features, "slots": slots})
        rewards = tuple(1.0 for _ in asked)
        outcome = Outcome(decision, rewards, sum(rewards), True, True)
        policy.update(observe([outcome], encoder))
        policy.update(correct([(outcome, tuple(0.5 for _ in asked))], encoder))
    assert all(np.isfinite(array).all() for array in policy.state_dict().values())


def let_in(context: list[Any], items: list[Any]) -> bool:
    try:
        check_list(context)
        for item in items:
            check_object(item)
    except FeatureError:
        return False
    return True


SAID = {
    "context": st.lists(OBJECTS | st.none(), max_size=3),
    "items": st.lists(OBJECTS, min_size=3, max_size=3),
    "slots": st.integers(0, 2),
}
LISTS = [{"tags": ["a"]}, {"price": 1e15}, {"m": [[1, {"x": [True]}], None]}]
LARGE = [{"v": [-MAX_NUMBER] * 100}, {}, {}]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(**SAID)
@example(context=[{"tags": ["a", "b", "a"]}], items=LISTS, slots=0)
@example(context=[{"v": [MAX_NUMBER] * 100}], items=LARGE, slots=2)
def test_what_is_let_in_is_encoded_and_learned(context: list[Any], items: list[Any], slots: int) -> None:
    if let_in(context, items):
        learn(untrained("described"), encoders()["features"], *said(context, items, slots))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "described"])
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(**SAID)
@example(context=[{"v": [MAX_NUMBER] * 100}], items=LARGE, slots=2)
def test_policies_that_read_no_features_are_not_stopped_by_them(
    name: str, context: list[Any], items: list[Any], slots: int
) -> None:
    if let_in(context, items):
        learn(kept(name), encoder_of(name), *said(context, items, slots))


def said(context: list[Any], items: list[Any], slots: int) -> tuple[Features, tuple[Slot, ...]]:
    """Make records as the interfaces do: without a second look at what they have let in."""
    parts = tuple(part for part in context if part)
    features = Features.model_construct(context=parts, items=tuple((item,) for item in items))
    return features, tuple(
        Slot.model_construct(slot_id=str(n), features=parts, exclude=(), baseline=None) for n in range(slots)
    )


@settings(max_examples=100, deadline=None)
@given(described=st.lists(OBJECTS, max_size=3))
def test_whatever_a_log_holds_has_finite_features(described: list[Any]) -> None:
    pairs = flatten(described)
    assert all(0 < found < 1 << 52 for found, _ in pairs)
    assert np.isfinite([value for _, value in pairs]).all()


def test_the_most_that_is_let_in_is_learned() -> None:
    deepest: Any = {"x": "bottom"}
    for level in range(MAX_DEPTH - 1):
        deepest = {"n": [deepest]} if level % 2 else {"n": deepest}
    most = {f"n{number}": number for number in range(MAX_VALUES)}
    tags = {"tags": [f"t{number}" for number in range(MAX_VALUES - 1)]}
    assert let_in([tags], [most, tags])
    learn(untrained("described"), encoders()["features"], Features(context=(tags,), items=((most,), (tags,), ())))


def told(numbers: dict[str, float], reward: float) -> Impressions:
    said = Features(context=(dict.fromkeys(numbers, "x") | {"u": "Ann"},), items=((numbers,),))
    query = encoders()["features"].query([Visit("u", TIME, ("a",), {}, said)])
    one = Slates(np.zeros((1, 1), np.int64), np.ones((1, 1)), np.zeros((1, 1)))
    return Impressions.of_slates(query, one, np.array([[reward]]))


def test_who_says_much_does_not_change_what_is_learned_of_the_others() -> None:
    little = [told({"n": number, "m": 1.0}, number % 3) for number in range(40)]
    much = told({f"n{number}": 0.5 * number for number in range(MAX_VALUES // 4)}, 1.0)
    one_by_one, at_once = untrained("described"), untrained("described")
    for observations in [*little[:20], much, *little[20:]]:
        one_by_one.update(observations)
    at_once.update(Impressions.concatenate([*little[:20], much, *little[20:]]))
    for name, array in at_once.state_dict().items():
        np.testing.assert_allclose(array, one_by_one.state_dict()[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_more_products_than_there_is_memory_for_are_refused_and_nothing_is_learned() -> None:
    policy = build(CrossedConfig(samples=8, interactions=(":::",)), 0, 1, np.zeros(1))
    much = told({f"n{number}": number for number in range(400)}, 1.0)
    assert much.sparse is not None
    with pytest.raises(PolicyError, match="401 features of the context and 401 of each of 1 items are too many"):
        policy.update(Impressions.concatenate([told({"n": 1.0}, 1.0), much]))
    assert not policy.state_dict()["count"].any()
    many = tuple(({f"{item}.{number}": number for number in range(100)},) for item in range(200))
    said = Features(context=({str(number): number for number in range(1000)},), items=many)
    query = encoders()["features"].query([Visit("u", TIME, [str(item) for item in range(200)], {}, said)])
    with pytest.raises(PolicyError, match="1000 features of the context and 20200 of 200 items, or products of them"):
        untrained("described").decide(query, 1, np.random.default_rng(0))
