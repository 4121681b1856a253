"""A policy in the simulator of a log: sessions are visited again, answers are those of the log's users."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.log.bulk import late_feedback
from data.log.store import Store
from rl.artefacts.artefact import Artefact
from rl.continuous.simulation import AS_USER, Simulation, simulate
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.from_log import WEIGHT
from rl.experience.logged import TransitionQuery, transitions_between
from rl.policies import PopularityConfig, RandomConfig, build
from rl.policies.baselines import Popularity
from tests.support.clocks import Clock
from tests.support.gates import learner
from tests.support.logged_shop import ITEMS, SPEC, write_sessions

USERS = 40


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The transitions of 40 sessions of 20 decisions."""
    url, clock = f"sqlite:///{tmp_path_factory.mktemp('log') / 'store.db'}", Clock()
    with closing(Store.open(url, clock)) as store:
        write_sessions(store, clock, USERS, seed=0)
        query = TransitionQuery(url, SPEC, clock.now, discount=0.5, reports=True)
        whole = pa.table({"first": [1], "last": [USERS * 20]})
        rows = pa.concat_tables(transitions_between(whole, query, late_feedback(store)))
    return rows.append_column(WEIGHT, pa.array(np.ones(rows.num_rows)))


def artefact(config: PopularityConfig | RandomConfig) -> Artefact:
    encoder = CatalogueEncoder(ITEMS)
    policy = build(config, 0, 1, encoder.popularity)
    if isinstance(config, PopularityConfig):
        policy = Popularity(np.array([0.0, 1.0, *(0.0,) * (len(ITEMS) - 1)]))
    return Artefact(name="policy", config=config, policy=policy, encoder=encoder, history=20, digest="12345678")


def test_simulated_rows_are_sessions_of_the_log_with_other_slates(table: pa.Table) -> None:
    rng = np.random.default_rng(0)
    found = simulate(Simulation.fit(table, rng), artefact(RandomConfig()), table, 300, rng)
    assert found is not None
    rows = found.to_pylist()
    assert 300 <= len(rows) < 320
    assert found.schema.names == [*table.schema.names, AS_USER]
    sessions = {row["user_id"] for row in rows}
    assert len(sessions) == len(rows) / 20
    assert {row[AS_USER] for row in rows} <= set(table["user_id"].to_pylist())
    for row, after in pairwise(rows[:20]):
        assert (row["next_decision_id"], row["discount"]) == (after["decision_id"], 0.5)
        assert row["propensities"] == [pytest.approx(1 / len(ITEMS))]
    assert (rows[19]["next_decision_id"], rows[19]["discount"]) == (None, 0.0)
    kinds = {(row["reports"][0]["kind"], row["reward"]) for row in rows}
    assert kinds == {("click", 1.0), ("reject", 0.0)}  # as the log reports them


def test_the_same_seed_gives_the_same_rows(table: pa.Table) -> None:
    def made() -> pa.Table | None:
        rng = np.random.default_rng(3)
        return simulate(Simulation.fit(table, rng), artefact(RandomConfig()), table, 100, rng)

    assert made() == made()


def test_what_is_shown_earns_what_the_log_says(table: pa.Table) -> None:
    """Product 1 is a favourite of one user in five, so of half of all it is clicked by three in ten or so."""
    rng = np.random.default_rng(1)
    shown = table.filter(pa.array([of[0] == ITEMS[0] for of in table["slate"].to_pylist()]))
    found = simulate(Simulation.fit(table, rng), artefact(PopularityConfig()), table, 1_000, rng)
    assert found is not None
    assert {tuple(of) for of in found["slate"].to_pylist()} == {(ITEMS[0],)}
    logged, simulated = (np.mean(rows["reward"].to_numpy()) for rows in (shown, found))
    assert abs(logged - simulated) < 0.25  # the log shows it to those who like it more often than to others


def test_a_policy_that_reads_features_is_not_simulated(table: pa.Table, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert simulate(Simulation.fit(table, rng), learner(tmp_path), table, 10, rng) is None
