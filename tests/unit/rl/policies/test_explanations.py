"""Explanations of the policies against numbers by hand. That they add up is checked of all kinds by conformance."""

from dataclasses import replace

import numpy as np
import pytest

from data.features.rfm import N_STATES, STATES_PER_SEGMENT, state_name
from data.schema import Features
from rl.encoders.context import ContextEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.policies import (
    LinearThompsonConfig,
    NeuralLinearConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
    TransformerConfig,
    build,
)
from rl.policies.forgetting.config import Forgetting
from rl.policies.forgetting.policy import ForgettingPolicy
from rl.policies.greedy import greedy
from rl.policies.linear.basis import Quadratic
from rl.policies.linear.neural import NeuralLinear
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.explanation.parts import Names
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from rl.policy.samples import make_samples
from tests.support.clocks import NOON
from tests.support.described import asked, untrained
from tests.support.shops import small_market

NO_POPULARITY = np.zeros(4)


def impressions(features: list[list[float]], items: list[int], rewards: list[float], state: int = 0) -> Impressions:
    n = len(items)
    return Impressions(
        np.array(features).reshape(n, -1), np.full(n, state), np.array(items), np.array(rewards), np.ones(n)
    )


def ask(features: list[list[float]], items: list[int], state: int = 0) -> Query:
    return Query(np.array([features]), np.array([state]), np.array([items]), np.ones((1, len(items)), np.bool_))


def test_a_ridge_regression_by_hand() -> None:
    policy = build(RidgeConfig(regularisation=1.0), 2, 1, NO_POPULARITY)
    policy.update(impressions([[1, 0], [0, 2]], [1, 2], [3.0, 5.0]))  # A = diag(2, 5), b = (3, 10)
    found = policy.explain(ask([[2, 1], [0, 3]], [1, 2]), [0, 1], Names(("age", "price")))
    one, other = found.items
    assert (found.method, found.window, one.base) == ("exact", None, 0.0)
    assert [(c.name, c.value) for c in one.contributions] == [("age", 2), ("price", 1)]
    assert [c.contribution for c in one.contributions] == pytest.approx([3.0, 2.0])
    assert one.score == pytest.approx(5.0)
    assert one.error == pytest.approx(0.0, abs=1e-12)
    assert one.uncertainty is not None
    assert one.uncertainty.sd == pytest.approx(np.sqrt(4 / 2 + 1 / 5))  # σ² φᵀA⁻¹φ, with σ 1
    assert {s.name: s.share for s in one.uncertainty.shares} == {
        "age": pytest.approx(2 / 2.2),
        "price": pytest.approx(0.2 / 2.2),
    }
    assert {c.name: c.contribution for c in other.contributions} == {"price": pytest.approx(6.0)}


def test_a_model_for_each_item_explains_by_its_own() -> None:
    policy = build(LinearThompsonConfig(noise_sd=2.0, models="per_item", basis=Quadratic()), 1, 1, NO_POPULARITY)
    policy.update(impressions([[2.0]], [3], [9.0]))
    found = policy.explain(ask([[2.0]], [3, 1]), [0, 1], Names(("hour",)))
    known, unknown = found.items
    # φ = (2, 4), A = I + φφᵀ, so that the weights are 9 φ / 21
    assert {c.names: c.contribution for c in known.contributions} == {
        ("hour", "hour"): pytest.approx(9 * 16 / 21),
        ("hour",): pytest.approx(9 * 4 / 21),
    }
    assert known.contributions[0].name == "hour × hour"
    assert (unknown.contributions, unknown.score) == ((), 0.0)
    assert unknown.uncertainty is not None
    assert unknown.uncertainty.sd == pytest.approx(2.0 * np.sqrt(20))
    mean, sd = policy.posterior(ask([[2.0]], [3, 1]))
    assert sd is not None
    assert (mean[0, 1], sd[0, 1]) == (0.0, pytest.approx(2.0 * np.sqrt(20)))


def test_the_rfm_bandits_rows_by_hand() -> None:
    policy = build(RFMBanditConfig(shrinkage=2.0), 0, N_STATES, NO_POPULARITY)
    state, cousin, stranger = 4 * STATES_PER_SEGMENT, 4 * STATES_PER_SEGMENT + 1, 0
    nothing: list[list[float]] = [[], [], [], []]
    for where, rewards in ((state, [1.0, 0.0]), (cousin, [1.0, 1.0]), (stranger, [0.0, 0.0])):
        policy.update(impressions(nothing[:2], [1, 1], rewards, where))
    policy.update(impressions(nothing[:2], [2, 2], [0.0, 1.0], stranger))
    query = Query(np.zeros((1, 1, 0)), np.array([state]), np.array([[1, 3]]), np.ones((1, 2), np.bool_))
    found = policy.explain(query, [0, 1], Names())
    known, new = found.items
    assert found.method == "table"
    everything = 4 / 8
    everyone = (3 + 2 * everything) / (6 + 2)
    segment = (3 + 2 * everyone) / (4 + 2)
    own = (1 + 2 * segment) / (2 + 2)
    assert [(row.state, row.value, row.mean, row.count) for row in known.table] == [
        ("Q4, January 1 to 15, Monday", pytest.approx(own), 0.5, 2.0),
        ("segment Q4", pytest.approx(segment), 0.75, 4.0),
        ("everyone", pytest.approx(everyone), 0.5, 6.0),
        ("all items", 0.5, 0.5, 8.0),
    ]
    assert known.score == pytest.approx(own)
    assert {c.name: c.contribution for c in known.contributions} == {
        "mean of Q4, January 1 to 15, Monday": pytest.approx(1 / 4),
        "mean of segment Q4": pytest.approx(2 / 4 * 3 / 6),
        "mean of everyone": pytest.approx(2 / 4 * 2 / 6 * 3 / 8),
        "mean of all items": pytest.approx(2 / 4 * 2 / 6 * 2 / 8 * 0.5),
    }
    assert known.error == pytest.approx(0.0, abs=1e-15)
    assert [row.count for row in new.table] == [0.0, 0.0, 0.0, 8.0]
    assert [row.mean for row in new.table[:3]] == [None] * 3
    assert [(c.name, c.contribution) for c in new.contributions] == [("mean of all items", 0.5)]


def test_popularity_and_chance() -> None:
    query = ask([[]], [2, 1])
    popular = build(PopularityConfig(), 0, 1, np.array([0.0, 5.0, 7.0])).explain(query, [0], Names())
    [row] = popular.items[0].table
    assert (popular.method, row.state, row.value, row.count) == ("table", "everyone", 7.0, 7.0)
    chance = build(RandomConfig(), 0, 1, np.zeros(3)).explain(query, [0, 1], Names())
    assert [(item.score, item.base, item.contributions) for item in chance.items] == [(0.0, 0.0, ())] * 2


def test_crossed_features_have_the_names_of_the_visit() -> None:
    encoder = FeaturesEncoder(())
    policy = untrained(noise_sd=0.5, cell_sd=0.0)
    visit = Visit(
        None,
        NOON,
        ["tea", "milk"],
        {},
        Features.model_validate(
            {"context": ({"user": {"mood": "low"}},), "items": (({"kind": "hot"},), ({"kind": "cold"},))}
        ),
    )
    query, names = encoder.query([visit]), encoder.names(visit)
    for reward, place in ((1.0, 0), (0.0, 1)) * 5:
        shown = replace(query, mask=np.array([[place == 0, place == 1]]))
        slates = policy.decide(shown, 1, np.random.default_rng(0))
        policy.update(Impressions.of_slates(shown, slates, np.array([[reward]])))
    [item] = policy.explain(query, [0], names).items
    found = {one.name: one.contribution for one in item.contributions}
    assert set(found) == {
        "constant",
        "user.mood=low",
        "item=tea",
        "kind=hot",
        "user.mood=low × item=tea",
        "user.mood=low × kind=hot",
    }
    assert found["item=tea"] == pytest.approx(found["kind=hot"])  # half of the item's weight each
    assert found["user.mood=low × kind=hot"] > 0
    assert item.error == pytest.approx(0.0, abs=1e-12)
    [short] = policy.explain(query, [0], names, 2).items
    assert len(short.contributions) == 2
    assert short.others == pytest.approx(sum(sorted(found.values(), key=abs)[:-2]))


def test_what_a_cell_has_of_its_own_is_named() -> None:
    policy = untrained(noise_sd=0.5)
    query = asked(("tea", "milk"), {"mood": "low"})
    for _ in range(20):
        slates = policy.decide(query, 2, np.random.default_rng(0))
        policy.update(Impressions.of_slates(query, slates, np.where(slates.positions == 0, 1.0, 0.0)))
    item = policy.explain(query, [0], Names()).items[0]
    [cell] = [one for one in item.contributions if one.name == "this item in this very context"]
    assert cell.value == 20.0
    assert item.error == pytest.approx(0.0, abs=1e-12)
    _, sd = policy.posterior(query)
    assert item.uncertainty is not None
    assert item.uncertainty.sd == pytest.approx(sd[0, 0])


def test_who_forgets_says_by_which_window_it_answers() -> None:
    config = RidgeConfig(regularisation=1.0, forgetting=Forgetting(shortest=8, rates=2))
    policy = build(config, 1, 1, NO_POPULARITY)
    assert isinstance(policy, ForgettingPolicy)
    rng = np.random.default_rng(0)
    for start in range(1, 201, 10):
        rewards = (1.0 if start <= 100 else -1.0) + 0.01 * rng.standard_normal(10)
        rows = impressions([[1.0]] * 10, [1] * 10, rewards.tolist())
        policy.update(replace(rows, at=np.arange(start, start + 10.0)))
    found = policy.explain(ask([[1.0]], [1]), [0], Names(("constant",)))
    assert found.window == policy.window
    assert found.window is not None
    assert 8 <= found.window <= 108  # it began at most a window's length before the change
    assert found.items[0].score == pytest.approx(-1.0, abs=0.2)  # the whole log says 0
    assert greedy(policy).explain(ask([[1.0]], [1]), [0], Names(("constant",))) == found


def taught(config: NeuralLinearConfig) -> NeuralLinear:
    policy = build(config, 2, 1, NO_POPULARITY)
    assert isinstance(policy, NeuralLinear)
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (600, 2))
    policy.update(impressions(x.tolist(), [1] * 600, np.abs(x[:, 0]).tolist()))
    assert policy.network_answers
    return policy


@pytest.mark.heavy
def test_a_network_below_a_linear_policy_is_explained_by_its_gradient() -> None:
    policy = taught(NeuralLinearConfig(head=RidgeConfig(), hidden=(16,), refresh_every=200, steps=300))
    query = ask([[0.8, 0.1]], [1])
    found = policy.explain(query, [0], Names(("x", "noise")))
    [item] = found.items
    assert found.method == "gradient"
    assert item.contributions[0].name == "x"
    numeric = [
        (policy.expected(ask([[0.8 + dx, 0.1 + dy]], [1])) - policy.expected(query))[0, 0] / 1e-6
        for dx, dy in ((1e-6, 0), (0, 1e-6))
    ]
    by_name = {one.name: one.contribution for one in item.contributions}
    assert by_name["x"] == pytest.approx(0.8 * numeric[0], rel=1e-3)
    assert by_name["noise"] == pytest.approx(0.1 * numeric[1], rel=1e-3, abs=1e-6)
    assert item.base == pytest.approx(policy.expected(ask([[0.0, 0.0]], [1]))[0, 0])
    assert item.error == pytest.approx(item.base + sum(by_name.values()) - item.score)
    assert item.uncertainty is not None
    assert item.uncertainty.shares[0].name.startswith(("learned feature", "constant"))


@pytest.mark.heavy
def test_where_the_layer_has_a_basis_features_are_left_out() -> None:
    head = RidgeConfig(basis=Quadratic(), regularisation=1.0)
    policy = taught(NeuralLinearConfig(head=head, hidden=(8,), refresh_every=200, steps=300))
    found = policy.explain(ask([[0.8, 0.1]], [1]), [0], Names(("x", "noise")))
    assert found.method == "leave_one_out"


@pytest.mark.heavy
def test_a_transformer_says_how_far_its_explanation_is_off() -> None:
    policy = build(TransformerConfig(network=QNetworkConfig(width=8)), 3, 1, NO_POPULARITY)
    query = make_samples(np.random.default_rng(0), n_features=3, n_items=3).query.rows(slice(1, 2))
    history = np.array([[[0, 0, 0], [1, 3, 2], [2, 4, 1]]])
    query = replace(query, history=history)
    found = policy.explain(query, [0, 1], Names(history=("", "click of tea", "purchase of milk")))
    assert found.method == "leave_one_out"
    scores = policy.expected(query)[0]
    for at, item in enumerate(found.items):
        assert item.score == scores[at]
        total = item.base + sum(one.contribution for one in item.contributions)
        assert item.error == pytest.approx(total - scores[at])
        by_name = {one.name: one.contribution for one in item.contributions}
        without = replace(query, history=np.array([[[0, 0, 0], [0, 0, 0], [2, 4, 1]]]))
        assert by_name["click of tea"] == pytest.approx(scores[at] - policy.expected(without)[0, at], abs=1e-6)


def test_encoders_name_what_they_encode() -> None:
    customers: CustomerEncoder = small_market()[1]
    names = customers.names(Visit("12000", NOON, ["20001"]))
    assert len(names.features) == len(set(names.features)) == customers.n_features
    assert names.features[:4] == (
        "segment unknown × constant",
        "segment unknown × popularity",
        "segment unknown × price",
        "segment Q1 × constant",
    )
    query = customers.query([Visit("12000", NOON, ["20001"])])
    segment = customers.user_segments[customers.user_positions(["12000"])[0]]
    constants = {name: query.features[0, 0, at] for at, name in enumerate(names.features) if name.endswith("constant")}
    assert [name for name, value in constants.items() if value] == [f"segment Q{segment} × constant"]
    assert names.features[-2:] == ("bought before", "times bought")
    history = np.array([[0, 0, 0], [1, 3, 2], [0, 4, 1]])
    context = ContextEncoder(("tea",), ("age",)).names(Visit(None, NOON, ["tea"], history=history))
    assert context.features == ("age",)
    assert context.history[1:] == ("click of tea, 2 steps ago", "purchase of an unknown item, 1 step ago")
    assert state_name(N_STATES - 1) == "Q4, December 16 on, Sunday"


def test_every_feature_that_is_encoded_has_a_name() -> None:
    described = Features.model_validate(
        {
            "context": (
                {"a": {"b": 2, "c": True, "deep": {"x": "y"}}, "tags": ["n", "m"], "vector": [1.5, 2.0], "f": 3.5},
            ),
            "items": (({"long": "z" * 300, "list": [{"k": "v"}, ["w", 4]]},),),
        }
    )
    visit = Visit(None, NOON, ["one"], {}, described)
    encoder = FeaturesEncoder(())
    names, sparse = encoder.names(visit), encoder.query([visit]).sparse
    assert sparse is not None
    ids = {int(one) for one in [*sparse.context.ravel(), *sparse.items.ravel()] if one}
    assert ids == set(names.ids)
    said = set(names.ids.values())
    assert {"a.b", "a.c=true", "a.deep.x=y", "tags=n", "vector[0]", "f", "item=one", "list.k=v"} <= said
    assert max(map(len, said)) == 100
    plain = Visit(None, NOON, ["one"], {"page": "home", "time": NOON.isoformat()})
    assert set(encoder.names(plain).ids.values()) == {"page=home", "item=one"}


def test_posteriors_of_who_does_not_know() -> None:
    policy: Policy = build(RFMBanditConfig(), 0, N_STATES, NO_POPULARITY)
    query = ask([[]], [1, 2])
    mean, sd = policy.posterior(query)
    assert sd is None
    assert (mean == policy.expected(query)).all()
