"""The transitions table: what is written is what is read, and what cannot be learned from is refused by name."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.attribution.transitions import TRANSITION_SCHEMA
from data.errors import DataError
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.checks import Columns
from rl.experience.collection import collect_transitions
from rl.experience.from_log import convert_log
from rl.experience.transitions import (
    batches,
    describe,
    read_dataset,
    to_numpy,
    write,
)
from rl.policies.baselines import Popularity
from rl.policy.explorers import EpsilonGreedy
from rl.simulators.registry import make
from rl.simulators.shop.shop import STEPS
from tests.support.shops import small_market


def some(n: int = 7, seed: int = 0) -> Columns:
    """Return transitions of 4 candidates with a future, each told apart by its reward."""
    rng = np.random.default_rng(seed)
    seen: Columns = {
        "items": rng.integers(1, 10, (n, 4)).astype(np.int32),
        "mask": np.ones((n, 4), np.int8),
        "history": rng.integers(0, 5, (n, 6, 3)).astype(np.int32),
        "features": rng.random((n, 4, 2), dtype=np.float32),
    }
    return {
        **seen,
        "actions": rng.integers(0, 4, (n, 1)),
        "propensities": rng.uniform(0.1, 1, (n, 1)).astype(np.float32),
        "rewards": np.arange(n, dtype=np.float32),
        "discounts": rng.choice(np.array([0.0, 0.9], np.float32), n),
        **{f"next_{name}": column[::-1].copy() for name, column in seen.items()},
    }


def written(tmp_path: Path, **changed: Any) -> str:
    """Write a table past the checks of `write`, as another program would; None leaves a column out."""
    columns = {name: column for name, column in (some() | changed).items() if column is not None}
    path = str(tmp_path / "table.parquet")
    pq.write_table(pa.table({name: column_of(column) for name, column in columns.items()}), path)
    return path


def column_of(column: Any) -> Any:
    if not isinstance(column, np.ndarray):
        return column
    array = pa.array(column.reshape(-1))
    for size in reversed(column.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def same(left: Columns, right: Columns) -> None:
    assert left.keys() == right.keys()
    for name, column in left.items():
        assert column.dtype == right[name].dtype, name
        np.testing.assert_array_equal(column, right[name])


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    columns, path = some(), str(tmp_path / "table.parquet")
    write(path, columns, n_items=12)
    same(to_numpy(pq.read_table(path)), columns)
    same(to_numpy(pq.read_table(path).slice(2, 3)), {name: column[2:5] for name, column in columns.items()})


def test_a_table_says_what_it_holds(tmp_path: Path) -> None:
    columns, path = some(), str(tmp_path / "table.parquet")
    write(path, columns, n_items=12)
    table = describe(path)
    assert (table.rows, table.n_items) == (7, 12)
    assert table.shapes == {name: column.shape[1:] for name, column in columns.items()}
    space = table.observation_space
    assert set(space) == {"items", "mask", "history", "features"}
    assert all(space[name].shape == columns[name].shape[1:] for name in space)
    assert int(space["items"].high.max()) == 12  # type: ignore[attr-defined]
    assert table.action_space.n == 4  # type: ignore[attr-defined]


def test_the_catalogue_is_as_large_as_the_largest_id_if_nobody_says(tmp_path: Path) -> None:
    columns = some()
    columns["next_history"][3, 2, 0] = 77
    write(str(tmp_path / "table.parquet"), columns)
    assert describe(str(tmp_path / "table.parquet"), rows_at_once=2).n_items == 77
    assert describe(written(tmp_path, next_history=columns["next_history"])).n_items == 77


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("materialize", [False, True])
def test_a_pass_has_every_row_once_and_whole(tmp_path: Path, materialize: bool) -> None:
    parts = [some(50, seed) | {"rewards": np.arange(50 * seed, 50 * seed + 50, dtype=np.float32)} for seed in (0, 1)]
    for number, part in enumerate(parts):
        write(str(tmp_path / f"{number}.parquet"), part)
    dataset = read_dataset(describe(str(tmp_path)), materialize)
    seeds = (1, 1, 2) if materialize else (1, 1)
    passes = [list(batches(dataset, 32, shuffled=100, seed=seed)) for seed in seeds]
    assert [len(batch["rewards"]) for batch in passes[0]] == [32, 32, 32, 4]
    joined = [{name: np.concatenate([batch[name] for batch in one]) for name in parts[0]} for one in passes]
    same(joined[0], joined[1])  # the seed is all that decides the order
    assert not materialize or (joined[0]["rewards"] != joined[2]["rewards"]).any()
    order = np.argsort(joined[0]["rewards"])
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    same({name: column[order] for name, column in joined[0].items()}, whole)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_columns_that_learning_does_not_need_stay_on_disk(tmp_path: Path) -> None:
    path = str(tmp_path / "table.parquet")
    write(path, some() | {"clicks": np.zeros(7)})
    table = describe(path)
    assert "clicks" not in table.shapes
    assert set(next(batches(read_dataset(table), 7, 7, 0))) == set(some())


@pytest.mark.parametrize("name", ["items", "mask", "actions", "propensities", "rewards", "next_items", "next_history"])
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"has no column {name}; it has .*history"):
        describe(written(tmp_path, **{name: None}))
    with pytest.raises(DataError, match=f"has no column {name}"):
        write(str(tmp_path / "other.parquet"), {n: column for n, column in some().items() if n != name})


def wrong(name: str, at: Any, value: float) -> dict[str, np.ndarray]:
    column = some()[name].copy()
    column[at] = value
    return {name: column}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (wrong("propensities", [2, 5], 0.0), r"propensities must be in \(0, 1\] .* in 2 of 7 rows \(first: row 2\)"),
        (wrong("propensities", 6, 1.01), r"propensities must be in \(0, 1\] .* in 1 of 7 rows \(first: row 6\)"),
        (wrong("propensities", 4, np.nan), r"propensities must be in \(0, 1\] .* \(first: row 4\)"),
        (wrong("actions", 3, 4), r"actions must be positions where the mask is on .* \(first: row 3\)"),
        (wrong("actions", 3, -1), r"actions must be .* \(first: row 3\)"),
        (wrong("mask", slice(1, None), 0), r"actions must be .* in 6 of 7 rows \(first: row 1\)"),
        (wrong("rewards", 5, np.inf), r"rewards must be finite .* \(first: row 5\)"),
        (wrong("discounts", 5, 1.5), r"discounts must be in \[0, 1\] .* \(first: row 5\)"),
        (wrong("discounts", 5, 0.5) | wrong("next_mask", 5, 0), r"next_mask must be on somewhere .* \(first: row 5\)"),
        (wrong("next_items", (5, 1), -1), r"next_items must be at least 0 .* \(first: row 5\)"),
        (wrong("history", (4, 1, 1), 5), r"history must be of items, outcomes below 5 .* \(first: row 4\)"),
        (wrong("features", (4, 1, 1), np.nan), r"features must be finite .* \(first: row 4\)"),
    ],
)
def test_wrong_values_are_counted_and_the_first_is_named(
    tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        describe(written(tmp_path, **changed), rows_at_once=2)
    with pytest.raises(DataError, match=message):
        write(str(tmp_path / "other.parquet"), some() | changed)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"PAR1 and then nothing")
    for path in (str(tmp_path / "table.parquet"), str(tmp_path / "absent")):
        with pytest.raises(DataError, match=rf"{path} cannot be read as a table of transitions"):
            describe(path)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no transitions"):
        describe(written(tmp_path, **{name: column[:0] for name, column in some().items()}))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="has no transitions"):
        describe(str(tmp_path / "folder"))


def test_arrays_of_no_fixed_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column items is list<.*, needed are numbers or fixed-size lists"):
        describe(written(tmp_path, items=pa.array(some()["items"].tolist())))


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("mask", np.ones((7, 5), np.int8), r"mask must be as long as items, a row is \[5\]"),
        ("items", np.ones((7, 4, 1), np.int32), r"items must be \[A\], a row is \[4, 1\]"),
        ("history", np.ones((7, 6, 2), np.int32), r"history must be \[T, 3\], a row is \[6, 2\]"),
        (
            "next_features",
            np.ones((7, 3, 2), np.float32),
            r"next_features must be \[A, F\] or \[1, F\], a row is \[3, 2\]",
        ),
        ("actions", np.zeros(7, np.int64), r"actions and propensities must both be \[K\], a row is \[\] and \[1\]"),
        ("propensities", np.ones((7, 2), np.float32), r"must both be \[K\], a row is \[1\] and \[2\]"),
        ("rewards", np.ones((7, 1), np.float32), r"rewards must be a number, a row is \[1\]"),
    ],
)
def test_columns_of_another_shape_are_refused(tmp_path: Path, name: str, column: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        describe(written(tmp_path, **{name: column}))
    with pytest.raises(DataError, match=message):
        write(str(tmp_path / "other.parquet"), some() | {name: column})


def test_nulls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column rewards has 2 nulls"):
        describe(written(tmp_path, rewards=pa.array([None, 1.0, 2.0, None, 4.0, 5.0, 6.0])))
    lists = pa.array([[1.0], None, [1.0], [1.0], [1.0], [1.0], [1.0]], pa.list_(pa.float32(), 1))
    with pytest.raises(DataError, match="cannot be read as a table of transitions"):
        describe(written(tmp_path, propensities=lists))


def test_files_that_differ_are_no_table(tmp_path: Path) -> None:
    write(str(tmp_path / "0.parquet"), some())
    write(str(tmp_path / "1.parquet"), some() | {"actions": some()["actions"].astype(np.int32)})
    with pytest.raises(DataError, match=r"the files of .* differ: .*actions fixed_size_list.*int64.*actions .*int32"):
        describe(str(tmp_path))


def test_a_record_has_the_probabilities_that_were_drawn_with() -> None:
    policy = Popularity(np.arange(11.0))  # always product 10, at position 9
    policy.explorer = EpsilonGreedy(epsilon=0.2)
    columns = collect_transitions(policy, make("raycommend/Shop-v0", 50), 2_000, 3, np.random.default_rng(0))
    assert {len(column) for column in columns.values()} == {2_000}
    assert "discounts" not in columns
    best = columns["actions"] == 9
    np.testing.assert_allclose(columns["propensities"], np.where(best, 0.82, 0.02), rtol=1e-6)
    assert abs(best.mean() - 0.82) < 4 * np.sqrt(0.82 * 0.18 / 2_000)
    shown = columns["history"].reshape(-1, 50, STEPS, 3)  # time by episode
    actions, clicked = columns["actions"].reshape(-1, 50), columns["rewards"].reshape(-1, 50)
    np.testing.assert_array_equal(shown[1, :, -1, 0], actions[0] + 1)
    np.testing.assert_array_equal(shown[1, :, -1, 1] == 3, clicked[0] == 1)
    assert not shown[STEPS].any()  # the next episode


def test_a_record_of_a_simulator_with_a_future_has_what_comes_after() -> None:
    env = make("raycommend/InterestEvolution-v0", 4)
    catalogue = int(env.single_observation_space["items"].high.max())  # type: ignore[attr-defined]
    policy = Popularity(np.arange(catalogue + 1.0))
    policy.explorer = EpsilonGreedy(epsilon=1.0)
    columns = collect_transitions(policy, env, 400, 0, np.random.default_rng(0))
    going = columns["discounts"][:-4] == env.discount
    assert going.any()
    for name in env.single_observation_space:
        np.testing.assert_array_equal(columns["next_" + name][:-4][going], columns[name][4:][going])


def logged(table: list[dict[str, Any]]) -> pa.Table:
    time = datetime(2026, 1, 5, 12, tzinfo=UTC)
    empty = dict.fromkeys(TRANSITION_SCHEMA.names)
    usual = {"decision_id": "d", "time": time, "context": "{}", "discount": 0.0}
    return pa.Table.from_pylist([empty | usual | row for row in table], schema=TRANSITION_SCHEMA)


def test_the_logs_transitions_become_a_row_for_each_slot() -> None:
    _, encoder = small_market()
    a, b, c = encoder.items[:3]
    later = datetime(2026, 7, 1, tzinfo=UTC)
    of_three = {"candidates": [a, b, c], "slate": [c, a], "rewards": [1.0, 0.5], "propensities": [0.5, 0.25]}
    of_two = {"candidates": [b, "unheard-of"], "slate": ["unheard-of"], "rewards": [-1.0], "propensities": [1.0]}
    rows = [
        of_three | {"user_id": encoder.users[4], "context": json.dumps({"time": later.isoformat()})},
        of_two | {"user_id": None},
    ]
    columns = convert_log(logged(rows), encoder)
    np.testing.assert_array_equal(columns["items"], [[1, 2, 3], [1, 2, 3], [2, 0, 0]])
    np.testing.assert_array_equal(columns["mask"], [[1, 1, 1], [1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(columns["actions"], [[2], [0], [1]])
    np.testing.assert_array_equal(columns["propensities"], [[0.5], [0.25], [1.0]])
    np.testing.assert_array_equal(columns["rewards"], [1.0, 0.5, -1.0])
    expected = encoder.joint(np.array([5]), [later], np.array([[1, 2, 3]]))
    np.testing.assert_array_equal(columns["features"][0], expected[0].astype(np.float32))
    assert "discounts" not in columns


def test_the_logs_next_decisions_are_kept(tmp_path: Path) -> None:
    _, encoder = small_market()
    a, b = encoder.items[:2]
    one = {"candidates": [a, b], "slate": [a], "rewards": [1.0], "propensities": [0.5], "user_id": encoder.users[0]}
    after = {"discount": 0.9, "next_decision_id": "e", "next_context": "{}", "next_candidates": [b]}
    columns = convert_log(logged([one | after, one]), encoder, candidates=3)
    np.testing.assert_array_equal(columns["discounts"], np.array([0.9, 0.0], np.float32))
    np.testing.assert_array_equal(columns["next_items"], [[2, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(columns["next_mask"], [[1, 0, 0], [0, 0, 0]])
    write(str(tmp_path / "log.parquet"), columns, n_items=len(encoder.items))
    assert describe(str(tmp_path / "log.parquet")).shapes["features"] == (3, encoder.n_features)
    with pytest.raises(DataError, match="a decision has 2 candidates, the table has room for 1"):
        convert_log(logged([one]), encoder, candidates=1)


def test_the_slots_of_a_slate_with_a_future_are_steps_of_its_episode() -> None:
    encoder = CatalogueEncoder(("a", "b", "c"))
    usual = {"candidates": ["a", "b", "c"], "propensities": [0.5, 0.25, 1.0], "user_id": "u"}
    after = {"discount": 0.9, "next_context": "{}"}
    rows = [
        usual | after | {"decision_id": "d1", "slate": ["c", "a", "b"], "rewards": [1.0, 0.0, 2.0]}
        | {"next_decision_id": "d3", "next_candidates": ["b", "c"]},
        usual | {"decision_id": "d2", "user_id": "v", "slate": ["b", "c", "a"], "rewards": [3.0]},  # one slot was seen
        usual | {"decision_id": "d3", "slate": ["a"], "rewards": [4.0], "propensities": [0.5]},
    ]  # fmt: skip
    histories = np.arange(2 * 3 * 6).reshape(2, 3, 2, 3)
    columns = convert_log(logged(rows), encoder, histories=(histories[0], histories[1]))
    np.testing.assert_array_equal(columns["actions"][:, 0], [2, 0, 1, 1, 0])
    np.testing.assert_array_equal(columns["mask"], [[1, 1, 1], [1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(columns["propensities"][:, 0], [0.5, 0.25, 1.0, 0.5, 0.5])
    np.testing.assert_array_equal(columns["rewards"], [1.0, 0.0, 2.0, 3.0, 4.0])
    np.testing.assert_array_equal(columns["discounts"], np.array([1.0, 1.0, 0.9, 0.0, 0.0], np.float32))
    np.testing.assert_array_equal(columns["next_mask"][:3], [[1, 1, 0], [0, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(columns["next_items"][:3], [[1, 2, 3], [1, 2, 3], [2, 3, 0]])
    np.testing.assert_array_equal(columns["history"], histories[0][[0, 0, 0, 1, 2]])
    np.testing.assert_array_equal(columns["next_history"][:3], [histories[0][0], histories[0][0], histories[1][0]])
    first, *others = columns["episode"].tolist()
    assert [number == first for number in others] == [True, True, False, True]
    np.testing.assert_array_equal(columns["step"], [0, 0, 0, 0, 1])
    assert "features" not in columns
    assert "discounts" not in convert_log(logged(rows[1:]), encoder)
    alone = convert_log(logged(rows[1:]), encoder, future=True)
    assert (alone["discounts"].tolist(), alone["next_mask"].sum()) == ([0.0, 0.0], 0)
    assert len(convert_log(logged([]), encoder, 3, future=True)["rewards"]) == 0


def test_a_log_without_a_column_is_refused() -> None:
    _, encoder = small_market()
    with pytest.raises(DataError, match="no column propensities"):
        convert_log(logged([]).drop_columns(["propensities"]), encoder)
