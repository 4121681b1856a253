"""Wheel, coffee, classification and ratings against what their tables say."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rl.simulators.bandits.classification import Classification, encode, generated_table
from rl.simulators.bandits.coffee import Coffee, preferences
from rl.simulators.bandits.contextual import ContextualBandit
from rl.simulators.bandits.ratings import (
    Ratings,
    factors,
    generated_ratings,
    rating_matrix,
)
from rl.simulators.bandits.wheel import Wheel
from rl.simulators.batched import SingleEnv
from tests.support.episodes import assert_mean
from tests.support.markets import four_errors

FOLDER = Path(os.environ.get("RAYCOMMEND_TEST_DATA", Path(__file__).parents[5] / "../shared/data"))


def real(*names: str) -> pytest.MarkDecorator:
    missing = not all((FOLDER / name).exists() for name in names)
    return pytest.mark.skipif(missing, reason=f"{' or '.join(names)} is not in {FOLDER}; set RAYCOMMEND_TEST_DATA")


@pytest.mark.parametrize("create", [Wheel, Coffee, Classification, Ratings])
def test_ceilings_are_what_policies_earn(create: type[ContextualBandit]) -> None:
    env = create(20_000)  # type: ignore[call-arg]
    env.reset(seed=1)
    ceilings, expected = env.ceilings(), env.expected_rewards()
    assert_mean(expected.max(axis=1), ceilings["oracle"])
    assert_mean(expected[:, expected.mean(axis=0).argmax()], ceilings["fixed"])
    actions = np.random.default_rng(0).integers(expected.shape[1], size=env.num_envs)
    _, rewards, _, _, info = env.step(actions)
    np.testing.assert_array_equal(info["expected"], expected[np.arange(env.num_envs), actions])
    np.testing.assert_array_equal(info["best"], expected.max(axis=1))
    assert_mean(rewards, ceilings["random"])


# Wheel


@pytest.mark.parametrize("delta", [0.5, 0.95])
def test_wheel_means_by_region(delta: float) -> None:
    """The expected rewards are those of the region that the features tell, read off the source's own words."""
    env = Wheel(50_000, delta=delta)
    x = env.reset(seed=0)[0]["features"][:, 0]
    assert (x[:, 2] == 1).all()
    outside = np.hypot(x[:, 0], x[:, 1]) >= delta
    assert np.hypot(x[:, 0], x[:, 1]).max() <= 1
    share = np.array(1 - delta**2)
    assert abs(outside.mean() - share) <= four_errors(share, 50_000)
    inside = env.expected_rewards()[~outside]
    assert np.unique(inside, axis=0).tolist() == [[1.0, 1.0, 1.0, 1.0, 1.2]]
    for arm, (right, upper) in enumerate([(True, True), (True, False), (False, True), (False, False)]):
        rows = outside & ((x[:, 0] > 0) == right) & ((x[:, 1] > 0) == upper)
        paid = [50.0 if a == arm else 1.0 for a in range(4)] + [1.2]
        assert np.unique(env.expected_rewards()[rows], axis=0).tolist() == [paid]
        assert abs(rows.mean() - share / 4) <= four_errors(share / 4, 50_000)


def test_wheel_noise() -> None:
    env = Wheel(100_000, delta=0.5)
    env.reset(seed=0)
    _, rewards, _, _, info = env.step(np.zeros(100_000, dtype=np.int64))
    rare = info["expected"] == 50
    assert (rewards - info["expected"])[rare].std() == pytest.approx(0.01, rel=0.03)
    assert (rewards - info["expected"])[~rare].std() == pytest.approx(0.05, rel=0.03)
    assert_mean(rewards[rare], 50.0)
    assert_mean(rewards[~rare], 1.0)


@pytest.mark.parametrize(
    ("delta", "oracle", "random", "fixed"),
    [(0.5, 37.8, 8.39, 10.1875), (0.9, 10.472, 2.902, 3.3275), (0.99, 2.17112, 1.23502, 1.243775)],
)
def test_wheel_ceilings_by_hand(delta: float, oracle: float, random: float, fixed: float) -> None:
    found = Wheel(delta=delta).ceilings()
    assert found == pytest.approx({"oracle": oracle, "random": random, "fixed": fixed}, abs=5e-6)


def test_wheel_refuses_a_radius_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"delta must be between 0 and 1, got 1\.0"):
        Wheel(delta=1.0)


# Coffee


def test_coffee_has_one_right_answer_in_each_cell() -> None:
    env, table = Coffee(5_000), preferences()
    observation, _ = env.reset(seed=0)
    user, weather, time = np.unravel_index(observation["state"], (4, 3, 3))
    cells = np.unique(observation["state"], return_counts=True)
    assert cells[0].tolist() == list(range(36))
    assert (np.abs(cells[1] / 5_000 - 1 / 36) <= four_errors(np.array(1 / 36), 5_000)).all()
    features = observation["features"][:, 0]
    parts = [np.eye(4)[user], np.eye(3)[weather], np.eye(3)[time], np.eye(36)[observation["state"]]]
    np.testing.assert_array_equal(features, np.concatenate(parts, axis=1))
    actions = np.random.default_rng(0).integers(4, size=5_000)
    _, rewards, _, _, _ = env.step(actions)
    np.testing.assert_array_equal(rewards, actions == table[user, weather, time])


def test_coffee_counts() -> None:
    assert np.bincount(preferences().ravel()).tolist() == [11, 10, 6, 9]
    assert Coffee().ceilings() == pytest.approx({"oracle": 1.0, "random": 0.25, "fixed": 0.3056}, abs=1e-4)


def test_coffee_without_crosses() -> None:
    plain, crossed = (Coffee(50, crossed=crossed).reset(seed=0)[0]["features"] for crossed in (False, True))
    np.testing.assert_array_equal(plain, crossed[:, :, :10])


# Classification

TABLE = pd.DataFrame(
    {
        "colour": ["red", "blue", "red", None, "blue"],
        "size": [1.0, 2.0, 3.0, np.nan, 2.0],
        "same": ["x"] * 5,
        "empty": [np.nan] * 5,
        "class": ["p", "e", "e", "p", "e"],
    }
)


def over(env: Classification, laps: int, action: int = 0) -> tuple[list[int], list[int], float]:
    """Answer whole passes with one arm; returns the rows and laps in order, and the regret."""
    env.reset(seed=0)
    rows, of_rows, regret = list[int](), list[int](), 0.0
    while len(rows) < laps * 5:
        _, _, _, _, info = env.step(np.full(env.num_envs, action))
        rows += info["row"].tolist()
        of_rows += info["lap"].tolist()
        regret += float((info["best"] - info["expected"]).sum())
    return rows, of_rows, regret


def test_columns_as_numbers_by_hand() -> None:
    """Colours blue, red and missing, sizes of mean 2 and deviation sqrt(1/2), a constant."""
    root = np.sqrt(2.0)
    expected = [[0, 1, 0, -root, 1], [1, 0, 0, 0, 1], [0, 1, 0, root, 1], [0, 0, 1, 0, 1], [1, 0, 0, 0, 1]]
    encoded, columns = encode(TABLE.drop(columns="class").assign(same="as ever"))
    np.testing.assert_allclose(encoded, expected, atol=1e-12)
    assert columns.tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("batch", [1, 2, 5, 12])
def test_each_row_once_a_pass(batch: int) -> None:
    """Also where batches do not divide the table: the rows of a pass are all there, in the order of the passes."""
    rows, laps, _ = over(Classification(batch, table=TABLE), laps=12)
    assert laps == sorted(laps)
    for lap in range(12):
        assert sorted(row for row, of_row in zip(rows, laps, strict=True) if of_row == lap) == [0, 1, 2, 3, 4]
    assert rows[:5] != rows[5:10]


def test_regret_by_hand() -> None:
    """Arm 1 is class e, right in three rows of five."""
    assert over(Classification(5, table=TABLE), laps=1)[2] == 2.0
    assert over(Classification(5, table=TABLE), laps=1, action=1)[2] == 3.0
    assert over(Classification(5, table=TABLE, rewards="mushroom"), laps=1, action=1)[2] == 2 * 15.0
    assert over(Classification(5, table=TABLE, rewards="mushroom"), laps=1)[2] == 3 * 5.0


def test_a_reset_shows_what_was_not_answered() -> None:
    env = Classification(2, table=TABLE)
    first, _ = env.reset(seed=0)
    assert env.reset()[0] is first
    again, _ = env.reset(seed=0)
    assert np.array_equal(first["features"], again["features"])


def test_a_single_environment_shows_each_row_once_a_pass() -> None:
    env = SingleEnv(Classification(1, table=TABLE))
    env.reset(seed=0)
    rows = []
    for _ in range(10):
        rows.append(int(env.step(0)[4]["row"]))
        env.reset()
    assert sorted(rows[:5]) == sorted(rows[5:]) == [0, 1, 2, 3, 4]


def test_mushrooms() -> None:
    env = Classification(20_000, table=TABLE, rewards="mushroom")
    env.reset(seed=0)
    _, rewards, _, _, info = env.step(np.ones(20_000, dtype=np.int64))
    edible = np.isin(info["row"], [1, 2, 4])
    assert (rewards[edible] == 5).all()
    assert set(rewards[~edible]) == {5.0, -35.0}
    assert_mean(rewards[~edible], -15.0)
    assert set(info["best"][edible]) == {5.0}
    assert set(info["best"][~edible]) == {0.0}
    _, rewards, _, _, info = env.step(np.zeros(20_000, dtype=np.int64))
    assert not rewards.any()
    assert env.ceilings() == pytest.approx({"oracle": 3.0, "random": -1.5, "fixed": 0.0})


def test_files_give_what_their_tables_give(tmp_path: Path) -> None:
    table = generated_table()
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    made = [Classification(9, table=source) for source in (table, tmp_path / "t.parquet", str(tmp_path / "t.csv"))]
    shown = [env.reset(seed=3)[0]["features"] for env in made]
    np.testing.assert_array_equal(shown[0], shown[1])
    np.testing.assert_allclose(shown[0], shown[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "kind"}, "no class column 'kind'; it has colour, size"),
        ({"label": "size"}, "'size' is empty in 1 of 5 rows"),
        ({"label": "same"}, "'same' needs two classes, got 1"),
        ({"rewards": "gold"}, "must be 'plain' or 'mushroom', got 'gold'"),
        ({"rewards": "mushroom", "poisonous": "deadly"}, "no row is of the poisonous class 'deadly'"),
    ],
)
def test_tables_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classification(table=TABLE, **options)


@real("classification/mushroom.parquet", "classification/shuttle_trn.parquet")
def test_real_tables() -> None:
    mushroom = Classification(8_124, table=FOLDER / "classification/mushroom.parquet", rewards="mushroom")
    features = mushroom.reset(seed=0)[0]["features"]
    assert features.shape == (8_124, 1, 117)
    assert mushroom.ceilings() == pytest.approx({"oracle": 2.590, "random": -2.320, "fixed": 0.0}, abs=5e-4)
    _, _, _, _, info = mushroom.step(np.zeros(8_124, dtype=np.int64))
    assert sorted(info["row"]) == list(range(8_124))
    assert np.sum(info["best"] == 5.0) == 4_208
    shuttle = Classification(table=FOLDER / "classification/shuttle_trn.parquet")
    assert shuttle.reset(seed=0)[0]["features"].shape == (1, 1, 10)
    assert shuttle.ceilings() == pytest.approx({"oracle": 1.0, "random": 1 / 7, "fixed": 0.7841}, abs=5e-5)


# Ratings


def stars(lines: Sequence[tuple[int, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=["userId", "movieId", "rating"])


def test_the_most_rated_movies_by_hand() -> None:
    """Movies 9 and 4 have two ratings each, 7 has one; user 3 rated only that; user 1 changed their mind on movie 9."""
    frame = stars([(1, 9, 1.0), (2, 9, 4.0), (2, 4, 3.0), (5, 4, 2.0), (3, 7, 5.0), (1, 9, 2.0)])
    matrix, movies, users = rating_matrix(frame, 2)
    assert movies == (4, 9)
    assert matrix.toarray().tolist() == [[0, 2], [3, 4], [2, 0]]
    assert users.tolist() == [1, 2, 5]
    matrix, movies, _ = rating_matrix(frame, 3)
    assert movies == (4, 9, 7)
    assert matrix.toarray().tolist() == [[0, 2, 0], [3, 4, 0], [0, 0, 5], [2, 0, 0]]


@pytest.mark.parametrize("rank", [1, 3, 12, 20])  # 1 and 3 by Lanczos, the others by LAPACK
def test_rewards_are_those_of_an_independent_decomposition(rank: int) -> None:
    matrix = rating_matrix(generated_ratings(), 20)[0].toarray()
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    strongest = vectors[:, np.argsort(values)[-rank:]]
    projected = matrix @ strongest @ strongest.T
    env = Ratings(500, rank=rank)
    observation, _ = env.reset(seed=0)
    assert observation["features"].shape == (500, 1, rank)
    distance = np.abs(env.expected_rewards()[:, None, :] - projected[None]).max(axis=2)  # [B, U]
    assert distance.min(axis=1).max() < 1e-8
    assert len(set(distance.argmin(axis=1))) > 150  # of 200 users, 184 expected
    exact = {"oracle": projected.max(axis=1).mean(), "random": projected.mean(), "fixed": projected.mean(axis=0).max()}
    assert env.ceilings() == pytest.approx(exact)
    u, v = factors(rating_matrix(generated_ratings(), 20)[0], rank)
    np.testing.assert_allclose((u**2).sum(axis=0), np.sqrt(np.sort(values)[::-1][:rank]))  # u sqrt(s): length sqrt(s)
    np.testing.assert_allclose((v**2).sum(axis=1), np.sqrt(np.sort(values)[::-1][:rank]))


def test_rewards_are_linear_in_the_features() -> None:
    """Least squares on 200 contexts tells the reward of 200 others."""
    env = Ratings(400, items=30, rank=5)
    x, y = env.reset(seed=0)[0]["features"][:, 0], env.expected_rewards()
    weights = np.linalg.lstsq(x[:200], y[:200], rcond=None)[0]
    np.testing.assert_allclose(x[200:] @ weights, y[200:], atol=1e-8)


def test_full_rank_gives_the_ratings_back() -> None:
    env = Ratings(100, items=40, rank=40)
    env.reset(seed=0)
    halves = 2 * env.expected_rewards()
    np.testing.assert_allclose(halves, halves.round(), atol=1e-9)
    assert env.expected_rewards().max() == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"items": 41}, "items must be between 1 and the 40 movies in the ratings, got 41"),
        ({"items": 10, "rank": 11}, r"rank must be between 1 and 10 for \(200, 10\) ratings, got 11"),
        ({"ratings": TABLE}, "no column movieId, rating, userId; they have colour"),
    ],
)
def test_ratings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ratings(**options)


@real("ml-latest-small/ratings.csv")
def test_movielens() -> None:
    path = FOLDER / "ml-latest-small/ratings.csv"
    env = Ratings(10, ratings=path)
    assert env.movies[:3] == (356, 318, 296)  # Forrest Gump, The Shawshank Redemption, Pulp Fiction
    matrix = pd.read_csv(path).pivot_table(index="userId", columns="movieId", values="rating")
    most = matrix[list(env.movies)].dropna(how="all").fillna(0.0).to_numpy()
    assert len(most) == 569
    exact = {"oracle": most.max(axis=1).mean(), "random": most.mean(), "fixed": most.mean(axis=0).max()}
    assert env.ceilings() == pytest.approx(exact)
    assert env.ceilings() == pytest.approx({"oracle": 4.756, "random": 1.705, "fixed": 2.467}, abs=5e-4)
    many = Ratings(10, ratings=path, items=1_000).ceilings()
    assert many == pytest.approx({"oracle": 3.552, "random": 0.366, "fixed": 2.267}, abs=5e-4)
