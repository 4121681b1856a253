"""Artefacts: what is saved is what is loaded, and what was not saved so is refused."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.features.customers import EncoderConfig, fit
from data.reward import RewardSpec
from rl.artefacts.artefact import Artefact, load, load_served, save
from rl.artefacts.description import TrainedIn
from rl.artefacts.errors import ArtefactError
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.customers import CustomerEncoder
from rl.encoders.simulated import SimulatedEncoder
from rl.encoders.visit import Visit
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
    SlateTransformerConfig,
    TransformerConfig,
    build,
)
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.errors import PolicyError
from rl.policy.explorers import SquareCB
from rl.policy.queries import Impressions, Query
from rl.simulators.market.retail import retail
from rl.simulators.registry import make
from rl.training.run.environments import describe_observations
from tests.support.markets import MONDAY, purchases

ENCODER = CustomerEncoder.of(
    fit(
        purchases(
            [(user, item, day, f"{user}{day}") for day, user in enumerate(("ann", "bob", "cat")) for item in "abcd"]
            + [("ann", "a", 9, "a9"), ("bob", "c", 8, "b8"), ("cat", "d", 7, "c7"), ("cat", "e", 7, "c7")]
        ),
        EncoderConfig(rank=2),
    )
)
VISITS = [Visit(user, MONDAY, ["a", "b", "c", "d", "e", "new"]) for user in ("ann", None, "zoe", "cat")]
QUERY = ENCODER.query(VISITS)
CONFIGS: list[PolicyConfig] = [
    RandomConfig(),
    PopularityConfig(),
    LinUCBConfig(alpha=0.3),
    LinearThompsonConfig(samples=30, noise_sd=0.4),
    RFMBanditConfig(shrinkage=3.0),
    RidgeConfig(explorer=SquareCB(gamma=7)),
]


def trained(config: PolicyConfig) -> Artefact:
    policy = build(config, ENCODER.n_features, ENCODER.n_states, ENCODER.popularity)
    rng = np.random.default_rng(0)
    for _ in range(20):
        slates = policy.decide(QUERY, 2, rng)
        policy.update(Impressions.of_slates(QUERY, slates, rng.choice([0.0, 1.0, 5.0], slates.positions.shape)))
    reward = RewardSpec(weights={"click": 2.0, "purchase": 3.5}, default=-0.25, aggregation="sum")
    return Artefact(
        name="shop",
        config=config,
        policy=policy,
        encoder=ENCODER,
        reward=reward,
        trained_on={"source": "test", "seed": 3, "rate": 0.1},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved artefact."""
    save(trained(RidgeConfig()), tmp_path / "shop")
    return tmp_path / "shop"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_a_round_trip_is_exact(config: PolicyConfig, tmp_path: Path) -> None:
    original = trained(config)
    saved = save(original, tmp_path / "policies" / "shop")
    loaded = load_served(tmp_path / "policies" / "shop")
    for name in ("name", "config", "reward", "trained_on", "digest"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.name == original.name
    assert loaded.config == config
    assert loaded.reward == original.reward
    assert loaded.trained_on == original.trained_on
    assert loaded.encoder.version == ENCODER.version
    query = loaded.encoder.query(VISITS)
    before = original.policy.decide(QUERY, 4, np.random.default_rng(1))
    after = loaded.policy.decide(
        Query(query.features, query.state, query.items, query.mask), 4, np.random.default_rng(1)
    )
    np.testing.assert_array_equal(after.positions, before.positions)
    np.testing.assert_array_equal(after.propensities, before.propensities)
    np.testing.assert_array_equal(after.scores, before.scores)


def test_a_loaded_policy_goes_on_learning(folder: Path) -> None:
    original, loaded = trained(RidgeConfig()), load_served(folder)
    slates = original.policy.decide(QUERY, 2, np.random.default_rng(2))
    for policy in (original.policy, loaded.policy):
        policy.update(Impressions.of_slates(QUERY, slates, np.ones(slates.positions.shape)))
    np.testing.assert_array_equal(loaded.policy.expected(QUERY), original.policy.expected(QUERY))


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    digests = [save(trained(config), tmp_path / "shop").digest for config in (RidgeConfig(), RidgeConfig(), CONFIGS[2])]
    assert digests[0] == digests[1] != digests[2]
    assert digests[2] == hashlib.sha256((tmp_path / "shop" / "policy.json").read_bytes()).hexdigest()[:8]


def test_saving_replaces_what_was_there(folder: Path) -> None:
    (folder / "leftover").write_text("of another time")
    save(trained(RFMBanditConfig()), folder)
    assert load_served(folder).config == RFMBanditConfig()
    assert sorted(path.name for path in folder.iterdir()) == ["arrays.safetensors", "policy.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["shop"]


def test_an_interrupted_save_does_not_hinder_the_next(folder: Path) -> None:
    (folder.parent / "shop.new").mkdir()
    (folder.parent / "shop.new" / "half").write_text("written")
    save(trained(RFMBanditConfig()), folder)
    assert load_served(folder).config == RFMBanditConfig()


@pytest.mark.parametrize("at", [0, 500, -1])
def test_a_flipped_byte_is_refused(folder: Path, at: int) -> None:
    blob = bytearray((folder / "arrays.safetensors").read_bytes())
    saved = hashlib.sha256(blob).hexdigest()
    blob[at] ^= 1
    (folder / "arrays.safetensors").write_bytes(blob)
    with pytest.raises(ArtefactError, match=f"sha256 {hashlib.sha256(blob).hexdigest()}, its description says {saved}"):
        load_served(folder)


@pytest.mark.parametrize("missing", ["policy.json", "arrays.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ArtefactError, match=f"no policy in .*shop: .*{missing} is missing; train one with rl.train"):
        load_served(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no policy in .*nowhere"):
        load_served(tmp_path / "nowhere")


def described(folder: Path, **changes: object) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("text", ["", "{", '{"name": "shop"}', "[1]"])
def test_an_invalid_description_is_refused(folder: Path, text: str) -> None:
    (folder / "policy.json").write_text(text)
    with pytest.raises(ArtefactError, match=r"^\S+policy\.json does not describe a policy: .*$") as refused:
        load_served(folder)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("field", "value"), [("policy", {"kind": "oracle"}), ("pickle", "gASV"), ("reward", {"wait_s": -1})]
)
def test_a_description_with_a_wrong_field_is_refused(folder: Path, field: str, value: object) -> None:
    described(folder, **{field: value})
    with pytest.raises(ArtefactError, match=field):
        load_served(folder)


def test_arrays_of_another_kind_of_policy_are_refused(folder: Path) -> None:
    described(folder, policy={"kind": "rfm_bandit"})
    with pytest.raises(PolicyError, match="has no array 'sums'; it has"):
        load_served(folder)


@pytest.mark.parametrize(("field", "ids"), [("items", list("abcx")), ("users", ["ann", "cat", "bob"])])
def test_other_items_or_customers_than_were_saved_are_refused(folder: Path, field: str, ids: list[str]) -> None:
    encoder = json.loads((folder / "policy.json").read_text())["encoder"]
    described(folder, encoder=encoder | {field: ids})
    with pytest.raises(ArtefactError, match="encoder"):
        load_served(folder)


def test_a_later_format_is_refused(folder: Path) -> None:
    described(folder, format=4)
    with pytest.raises(ArtefactError, match="format"):
        load_served(folder)


def test_a_description_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "policy.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError, match="does not describe a policy"):
        load_served(folder)


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ArtefactError, match="no policy in"):
        load_served(folder / "policy.json")


# Policies that were trained in a simulator: they have no catalogue.

SHOP = TransformerConfig(network=QNetworkConfig(width=8))
SLATES = SlateTransformerConfig(network=SlateNetworkConfig(width=8, added_scale=3.0), slate=2)


def in_simulator(config: PolicyConfig, environment: str) -> Artefact:
    told = describe_observations(make(environment, 1))
    encoder = told["encoder"]
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    where = TrainedIn(name=environment, options={"a": 1})
    return Artefact(name="sim", config=config, policy=policy, environment=where, trained_on={"env_steps": 5}, **told)


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        (SHOP, "raycommend/Shop-v0"),
        (SLATES, "raycommend/InterestEvolution-v0"),
        (LinUCBConfig(models="per_item"), "raycommend/Wheel-v0"),
    ],
    ids=["transformer", "slates", "bandit"],
)
def test_a_simulators_policy_is_loaded_as_it_was_saved(config: PolicyConfig, environment: str, tmp_path: Path) -> None:
    saved = save(in_simulator(config, environment), tmp_path / "sim")
    loaded = load(tmp_path / "sim")
    for name in ("name", "config", "encoder", "environment", "history", "reward", "trained_on", "digest"):
        assert getattr(loaded, name) == getattr(saved, name), name
    env = make(environment, 4)
    query = Query.of(env.reset(seed=0)[0])
    np.testing.assert_array_equal(loaded.policy.expected(query), saved.policy.expected(query))
    before, after = (policy.distribution(query, np.random.default_rng(1)) for policy in (saved.policy, loaded.policy))
    np.testing.assert_array_equal(after, before)


def test_a_policy_of_a_simulators_own_contexts_is_not_served(tmp_path: Path) -> None:
    save(in_simulator(SLATES, "raycommend/InterestEvolution-v0"), tmp_path / "sim")
    with pytest.raises(ArtefactError, match=r"sim was trained in raycommend/Interest.* has no encoder: .*22 features"):
        load_served(tmp_path / "sim")


def test_a_simulators_policy_without_features_is_served_by_ids(tmp_path: Path) -> None:
    saved = save(in_simulator(SHOP, "raycommend/Shop-v0"), tmp_path / "sim")
    loaded = load_served(tmp_path / "sim")
    assert (loaded.encoder.items, loaded.history) == ((*tuple("123456789"), "10"), 20)
    assert (loaded.digest, loaded.name, loaded.config) == (saved.digest, "sim", SHOP)
    env = make("raycommend/Shop-v0", 3)
    env.reset(seed=0)
    for actions in ([0, 1, 2], [9, 9, 0], [4, 1, 0]):
        shown = env.step(np.array(actions))[0]
    visits = [Visit(None, MONDAY, loaded.encoder.items, history=history) for history in shown["history"]]
    np.testing.assert_array_equal(
        loaded.policy.expected(loaded.encoder.query(visits)), saved.policy.expected(Query.of(shown))
    )


@pytest.mark.heavy
def test_a_policy_trained_in_the_retail_simulator_is_served_to_its_customers(tmp_path: Path) -> None:
    spec = RewardSpec(default=0.5)
    env = retail(4, market={"users": 40, "items": 12, "kinds": 3}, encoder={"rank": 3}, k=2, spec=spec)
    policy = build(SHOP, env.encoder.n_features, env.encoder.n_states, np.zeros(13))
    where = TrainedIn(name="raycommend/Retail-v0")
    artefact = Artefact(name="net", config=SHOP, policy=policy, environment=where, **describe_observations(env))
    save(artefact, tmp_path / "net")
    loaded = load_served(tmp_path / "net")
    assert loaded.reward == spec
    assert loaded.history == 0
    observation, _ = env.reset(seed=3)
    users, times = env.market.sample_visits(4, np.random.default_rng(3))  # the first draws of the simulator's seed
    asked = loaded.encoder.query(
        [Visit(env.market.users[u], t, env.market.items) for u, t in zip(users, times, strict=True)]
    )
    np.testing.assert_array_equal(asked.features, observation["features"])
    np.testing.assert_array_equal(asked.state, observation["state"])
    np.testing.assert_array_equal(loaded.policy.expected(asked), policy.expected(Query.of(observation)))
    assert loaded.environment == where  # rl.evaluate plays the simulator with it


# Encoders that are described as what they are.


def by_ids(items: tuple[str, ...]) -> Artefact:
    encoder = CatalogueEncoder(items)
    policy = build(SHOP, encoder.n_features, encoder.n_states, encoder.popularity)
    return Artefact(name="ids", config=SHOP, policy=policy, encoder=encoder, history=7)


def test_a_catalogue_of_ids_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    saved = save(by_ids(("red", "green")), tmp_path / "ids")
    loaded = load_served(tmp_path / "ids")
    assert loaded.encoder == CatalogueEncoder(("red", "green"))
    assert (loaded.history, loaded.digest) == (7, saved.digest)
    query = loaded.encoder.query([Visit("ann", MONDAY, ["green", "blue", "red"])])
    np.testing.assert_array_equal(query.items, [[2, 0, 1]])
    np.testing.assert_array_equal(loaded.policy.expected(query), saved.policy.expected(query))


def test_other_ids_than_were_saved_are_refused(tmp_path: Path) -> None:
    save(by_ids(("red", "green")), tmp_path / "ids")
    encoder = json.loads((tmp_path / "ids" / "policy.json").read_text())["encoder"]
    described(tmp_path / "ids", encoder=encoder | {"items": ["green", "red"]})
    with pytest.raises(ArtefactError, match="has encoder"):
        load_served(tmp_path / "ids")


def test_customers_may_have_a_history(tmp_path: Path) -> None:
    save(replace(trained(RidgeConfig()), history=5), tmp_path / "shop")
    loaded = load_served(tmp_path / "shop")
    assert (loaded.history, loaded.encoder.version) == (5, ENCODER.version)


def test_an_encoder_of_another_kind_of_arrays_is_refused(tmp_path: Path) -> None:
    save(by_ids(("red", "green")), tmp_path / "ids")
    of_customers = {"kind": "customers", "items": ["red"], "users": [], "version": "0"}
    described(tmp_path / "ids", encoder=of_customers)
    with pytest.raises(ArtefactError, match="arrays are not those"):
        load_served(tmp_path / "ids")


def test_a_served_network_hides_no_items(tmp_path: Path) -> None:
    config = TransformerConfig(network=QNetworkConfig(width=8, item_dropout=0.9))
    save(in_simulator(config, "raycommend/Shop-v0"), tmp_path / "sim")
    loaded = load_served(tmp_path / "sim")
    query = loaded.encoder.query([Visit(None, MONDAY, loaded.encoder.items)])
    np.testing.assert_array_equal(loaded.policy.expected(query), loaded.policy.expected(query))


def test_visits_of_different_histories_are_aligned_at_their_end() -> None:
    one, two = np.array([[1, 3, 1]]), np.array([[2, 1, 2], [1, 1, 1]])
    query = CatalogueEncoder(("a", "b")).query(
        [Visit(None, MONDAY, "ab", history=one), Visit(None, MONDAY, "ab"), Visit(None, MONDAY, "ba", history=two)]
    )
    np.testing.assert_array_equal(query.history, [[[0, 0, 0], one[0]], np.zeros((2, 3)), two])
    assert CatalogueEncoder(("a",)).query([Visit(None, MONDAY, "a")]).history is None


def test_sizes_are_those_of_the_observations() -> None:
    for name, sizes in (("Shop", (10, 0, 1)), ("Wheel", (5, 3, 1))):
        space = make(f"raycommend/{name}-v0", 1).single_observation_space
        assert SimulatedEncoder.of(space) == SimulatedEncoder(*sizes)
