"""Visits as numbers of their context."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.settings import Settings
from rl.artefacts.artefact import load
from rl.config import parse_config
from rl.encoders.context import ContextEncoder
from rl.encoders.description import describe, restore
from rl.encoders.visit import Visit
from rl.policy.arrays import LARGEST
from rl.policy.queries import Impressions
from rl.training.kinds.retail import RetailExperiment, run
from tests.support.clocks import NOON

ENCODER = ContextEncoder(("a", "b", "c"), ("x", "y"))


def visit(**context: object) -> Visit:
    return Visit("u", NOON, ["c", "new", "a"], context)  # type: ignore[arg-type]


def test_a_visit_is_its_numbers_and_what_is_none_is_nothing() -> None:
    visits = [visit(x=1.5, y=-2, z=9), visit(y=True), visit(x="1.5", y=None), visit(x=10**400, y=-(10**400))]
    query = ENCODER.query(visits)
    assert query.features.tolist() == [[[1.5, -2.0]], [[0.0, 1.0]], [[0.0, 0.0]], [[LARGEST, -LARGEST]]]
    assert query.items.tolist() == [[3, 0, 1]] * 4
    assert query.mask.all()
    assert query.history is None


def test_it_is_described_and_made_again_and_a_changed_one_is_refused() -> None:
    description, arrays = describe(ENCODER)
    assert arrays == {}
    assert restore(description, {}) == ENCODER
    assert ContextEncoder(ENCODER.items, ("y", "x")).version != ENCODER.version
    with pytest.raises(ValueError, match="its description says"):
        restore(description.model_copy(update={"numbers": ("y", "x")}), {})


def test_the_experiment_that_ships_makes_a_policy_that_learns_what_each_movie_earns(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store=None, archive=None)
    arguments = ["rl/experiments/movielens.toml", "--source", "nothing", "--no-track"]
    run(parse_config(RetailExperiment, arguments), settings)
    artefact = load(tmp_path / "policies" / "movielens")
    rng, encoder = np.random.default_rng(0), artefact.encoder
    weights = rng.standard_normal((20, 20))
    contexts = rng.standard_normal((400, 20))
    visits = [
        Visit(None, NOON, encoder.items, {f"f{place}": float(value) for place, value in enumerate(row)})
        for row in contexts
    ]
    for start in range(0, 400, 40):
        query = encoder.query(visits[start : start + 40])
        slates = artefact.policy.decide(query, 20, rng)  # every movie, in some order
        earned = np.take_along_axis(contexts[start : start + 40] @ weights.T, slates.positions, axis=1)
        artefact.policy.update(Impressions.of_slates(query, slates, earned))
    found = artefact.policy.expected(encoder.query(visits[:5]))
    assert np.allclose(found, contexts[:5] @ weights.T, atol=1e-3)


def test_a_simulator_says_no_context(tmp_path: Path) -> None:
    arguments = ["rl/experiments/movielens.toml", "--source", "simulator", "--no-track"]
    with pytest.raises(DataError, match="a policy with a context learns from what requests"):
        run(parse_config(RetailExperiment, arguments), Settings(home=tmp_path, store=None, archive=None))
