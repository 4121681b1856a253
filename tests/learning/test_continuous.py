"""Networks that are trained on: from nothing to a champion, then from that champion's learner on what is new."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.log.store import Store
from data.schema import Decision, Feedback
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load, save
from rl.continuous.pipeline import do_run
from rl.continuous.specification import ContinuousSpec, Data, Training, Trigger
from rl.encoders.catalogue import CatalogueEncoder
from rl.evaluation.returns import play
from rl.gate import conformance
from rl.gate.specification import GateSpec
from rl.policies import RandomConfig, build
from rl.policies.greedy import Greedy
from rl.policy.queries import Query
from rl.promotions import promote
from rl.registry import register, resolve
from rl.simulators.shop.shop import Shop
from tests.support.clocks import Clock
from tests.support.logged_shop import ITEMS, SPEC, write_sessions

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_TIMED", 20)


def begin(home: Path, items: tuple[str, ...]) -> Settings:
    """Let a policy that draws at random be the champion."""
    settings, encoder = Settings(home=home, store=None, archive=None), CatalogueEncoder(items)
    policy = build(RandomConfig(), 0, 1, encoder.popularity)
    save(
        Artefact(name="random", config=RandomConfig(), policy=policy, encoder=encoder, reward=SPEC),
        home / "policies" / "random",
    )
    register(settings, home / "policies" / "random", "champion")
    return settings


def spec_of(**training: Any) -> ContinuousSpec:
    return ContinuousSpec(
        name="shop",
        trigger=Trigger(decisions=100, drift=False),
        reward=SPEC,
        data=Data(held_out=0.2, simulated=0.2, discount=0.5, weigh="age"),
        training=Training.model_validate(training),
        gate=GateSpec(look=500, slowdown=1_000.0, learn=False),
    )


def run(spec: ContinuousSpec, settings: Settings) -> tuple[dict[str, Any], Artefact]:
    found = do_run(spec, settings)
    assert found is not None
    if not found["promoted"]:  # this is about what is learned, whatever the gate has said
        new, old = (resolve(settings, str(found[name])) for name in ("version", "champion"))
        promote(settings, new, old, found["mlflow_run"], forced="the test goes on from it")
    return found, load(Path(found["folder"]) / "train" / "policy")


def returns(artefact: Artefact) -> float:
    return play(Greedy(artefact.policy), Shop(250), 1_000, 1, np.random.default_rng(1)).mean


def test_a_transformer_goes_on_from_its_checkpoint_and_gets_better(tmp_path: Path) -> None:
    settings, spec = begin(tmp_path, ITEMS), spec_of(policy="transformer", transformer={"passes": 3})
    with closing(Store.open(settings.store_url, clock := Clock())) as store:
        behaviour = write_sessions(store, clock, users=150, seed=0)
        clock.advance(1_000)
        first, one = run(spec, settings)
        write_sessions(store, clock, users=250, seed=1)
        clock.advance(1_000)
        second, two = run(spec, settings)
    assert (first["trained"]["went_on_from"], second["trained"]["went_on_from"]) == ("nothing", "weights and optimiser")
    assert (second["run"], second["data"]["first"]) == (
        2,
        1 + round(0.8 * 3_000),
    )  # what had judged is learned from now
    assert second["trained"]["learned_simulated"] == pytest.approx(second["trained"]["learned"] / 4, rel=0.02)
    assert two.trained_on["from"] == one.digest
    assert (two.encoder.items, two.config) == (one.encoder.items, one.config)
    assert returns(two) > max(returns(one), 8.0) > behaviour
    report = second["sim_to_real"]
    assert report["rmse"] < report["rmse_of_item_means"]
    assert report["classes"] > 1


def write_slates(store: Store, clock: Clock, n: int, seed: int) -> None:
    """Log slates of two of six items by chance, of which the first that is liked is clicked: p5 by most."""
    rng = np.random.default_rng(seed)
    items = tuple(f"p{at}" for at in range(6))
    liked = np.array([0.05, 0.1, 0.1, 0.1, 0.2, 0.7])
    for number in range(n):
        shown = rng.permutation(6)[:2]
        clicked = rng.random(2) < liked[shown]
        decision = Decision(
            decision_id=f"{seed}/{number}",
            time=clock(),
            user_id=f"{seed}/{number // 5}",
            candidates=items,
            slate=tuple(items[at] for at in shown),
            propensities=(1 / 6, 1 / 5),
            scores=(0.0, 0.0),
            policy="random",
            policy_version="0.0.0",
        )
        store.insert([decision])
        if clicked.any():
            item = decision.slate[int(clicked.argmax())]
            about = decision.decision_id
            store.insert([Feedback(feedback_id=about, decision_id=about, item_id=item, kind="click")])
        clock.advance(5.0)


def test_a_slate_network_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    items = tuple(f"p{at}" for at in range(6))
    settings = begin(tmp_path, items[:5])  # nobody has told the champion of p5
    spec = spec_of(policy="slate_transformer", slots=2, slate_transformer={"passes": 30, "network": {"width": 16}})
    with closing(Store.open(settings.store_url, clock := Clock())) as store:
        write_slates(store, clock, 1_500, seed=0)
        clock.advance(1_000)
        first, one = run(spec, settings)
        write_slates(store, clock, 1_500, seed=1)
        clock.advance(1_000)
        second, two = run(spec, settings)
    assert (first["trained"]["policy"], one.config.slate) == ("slate_transformer", 2)  # type: ignore[union-attr]
    assert (first["trained"]["went_on_from"], second["trained"]["went_on_from"]) == ("nothing", "weights and optimiser")
    for artefact in (one, two):
        query = Query.of({"items": artefact.encoder.item_positions(items)[None], "mask": np.ones((1, 6))})
        greedy = Greedy(artefact.policy).decide(query, 2, np.random.default_rng(0))
        assert {items[at] for at in greedy.positions[0]} == {"p5", "p4"}
