"""The encoder against hand-checked events and against a second, row-by-row implementation."""

from datetime import UTC, datetime
from math import cos, log, log1p, pi, sin, sqrt

import numpy as np
import pyarrow as pa
import pytest

from data.errors import DataError
from data.features.customers import Encoder, EncoderConfig, fit
from data.features.purchases import purchase_columns, purchase_lines
from data.features.rfm import SEGMENTS
from data.nodes.node import Column, NodeSpec, load_node
from tests.support.markets import MONDAY, purchases, random_encoder

# Lines by item: lamp 4, mug 2, bowl 1, vase 1. Prices 4, 2, 1, 2.
EVENTS = purchases(
    [
        ("ann", "lamp", 0, "1"),
        ("ann", "lamp", 7, "2"),
        ("ann", "lamp", 9, "3"),
        ("ann", "mug", 9, "3"),
        ("bob", "lamp", 3, "4"),
        ("bob", "bowl", 3, "4"),
        ("cat", "mug", 1, "5"),
        ("cat", "vase", 1, "5"),
        (None, "vase", 2, "6"),
    ],
    prices={"lamp": 4.0, "mug": 2.0, "bowl": 1.0, "vase": 2.0},
)
ENCODER = fit(EVENTS, EncoderConfig(rank=2))


def test_catalogue_and_customers_are_those_of_the_events() -> None:
    assert ENCODER.items == ("bowl", "lamp", "mug", "vase")
    assert ENCODER.users == ("ann", "bob", "cat")
    assert ENCODER.popularity.tolist() == [0.0, 1.0, 4.0, 2.0, 1.0]  # who bought without a name does not count


def test_the_catalogue_is_the_best_selling_items() -> None:
    assert fit(EVENTS, EncoderConfig(rank=1, max_items=2)).items == ("lamp", "mug")
    assert fit(EVENTS, EncoderConfig(rank=1, max_items=3)).items == ("bowl", "lamp", "mug")  # a tie goes by id


def test_positions() -> None:
    assert ENCODER.item_positions(["vase", "car", "bowl"]).tolist() == [4, 0, 1]
    assert ENCODER.user_positions(["cat", None, "zoe", "ann"]).tolist() == [3, 0, 0, 1]


def test_times_bought() -> None:
    users, items = np.array([1, 2, 3, 0]), np.tile(np.arange(5), (4, 1))
    assert ENCODER.times_bought(users, items).tolist() == [
        [0, 0, 3, 1, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 0, 0],
    ]


def test_item_basics_are_standardised() -> None:
    """In units of log 2, popularities are 0, 2, 1, 0 (mean 3/4) and prices 0, 2, 1, 1 (mean 1)."""
    sd_popularity, sd_price = sqrt((9 + 25 + 1 + 9) / 16 / 4), sqrt((1 + 1) / 4)
    expected = [
        [1.0, 0.0, 0.0],
        [1.0, -0.75 / sd_popularity, -1 / sd_price],
        [1.0, 1.25 / sd_popularity, 1 / sd_price],
        [1.0, 0.25 / sd_popularity, 0.0],
        [1.0, -0.75 / sd_popularity, 0.0],
    ]
    np.testing.assert_allclose(ENCODER.item_basics, expected, atol=1e-12)


def test_a_price_is_the_median_of_what_was_paid() -> None:
    prices = pa.array([8.0, 1.0, 4.0, 2.0, 4.0, 1.0, 2.0, 2.0, 2.0])  # the lamp's: 8, 1, 4, 4
    events = EVENTS.set_column(EVENTS.column_names.index("price"), "price", prices)
    np.testing.assert_allclose(fit(events, EncoderConfig(rank=2)).item_basics, ENCODER.item_basics)


def test_factors_are_those_of_the_dense_decomposition() -> None:
    counts = np.log1p(np.array([[0, 3, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]]))
    rows = counts / np.linalg.norm(counts, axis=1, keepdims=True)
    vt = np.linalg.svd(rows)[2][:2]
    vt *= np.sign(vt.sum(axis=1, keepdims=True))
    items = vt.T * sqrt(4)
    users = rows @ items
    users *= sqrt(2) / np.linalg.norm(users, axis=1, keepdims=True)
    np.testing.assert_allclose(ENCODER.item_vectors, [[0, 0], *items], atol=1e-9)
    np.testing.assert_allclose(ENCODER.user_vectors, [[0, 0], *users], atol=1e-9)
    np.testing.assert_allclose((ENCODER.item_vectors[1:] ** 2).mean(axis=0), 1.0)


def test_segments_are_fitted_on_the_purchases() -> None:
    """Recency 0, 6, 8 days, frequency 3, 1, 1, spent 14, 5, 4: scores 4+4+4 for ann, 3+1+2 for bob, 1+1+1 for cat."""
    assert [SEGMENTS[code] for code in ENCODER.user_segments] == ["unknown", "Q4", "Q2", "Q1"]
    august_1_monday = (7 * 2 + 0) * 7 + 0
    assert ENCODER.states(np.array([3, 0]), [MONDAY] * 2).tolist() == [1 * 168 + august_1_monday, august_1_monday]


def test_equal_content_gives_the_same_version_whatever_the_order() -> None:
    shuffled = EVENTS.take(np.random.default_rng(0).permutation(EVENTS.num_rows))
    again = fit(shuffled.sort_by("event_id"), EncoderConfig(rank=2))
    assert again.version == ENCODER.version
    assert fit(EVENTS, EncoderConfig(rank=1)).version != ENCODER.version
    assert fit(EVENTS.slice(1), EncoderConfig(rank=2)).version != ENCODER.version


@pytest.mark.parametrize("change", ["items", "users", "popularity", "item_vectors", "user_segments", "pair_counts"])
def test_the_version_covers(change: str) -> None:
    content = {"items": ENCODER.items, "users": ENCODER.users, **ENCODER.arrays()}
    old = content[change]
    changed = (*old[:-1], "other") if isinstance(old, tuple) else np.concatenate([old[:-1], old[-1:] + 1])
    assert Encoder(**{**content, change: changed}).version != ENCODER.version  # type: ignore[arg-type]


def test_what_was_spent() -> None:
    lines = purchase_lines(purchases([("ann", "lamp", 0, "1"), ("bob", "mug", 0, "2")], {"lamp": 4.0}, pieces=3.0))
    assert lines["amount"].tolist() == [12.0, 6.0]


# A second implementation of the joint features, one number after the other.


def naive_joint(
    encoder: Encoder, bought: dict[tuple[int, int], float], user: int, time: datetime, item: int
) -> list[float]:
    angle = 2 * pi * time.timetuple().tm_yday / 365.25
    season = [sin(angle), cos(angle), sin(2 * angle), cos(2 * angle)]
    times = bought.get((user, item), 0.0)
    row: list[float] = []
    for segment in range(len(SEGMENTS)):
        row += [float(value) * (segment == encoder.user_segments[user]) for value in encoder.item_basics[item]]
    row += [float(value) for value in encoder.item_vectors[item]]
    row += [float(u * i) for u, i in zip(encoder.user_vectors[user], encoder.item_vectors[item], strict=True)]
    row += [wave * float(value) for wave in season for value in encoder.item_vectors[item]]
    return [*row, float(times > 0), log1p(times)]


def test_joint_features_equal_the_naive_ones() -> None:
    rng = np.random.default_rng(4)
    bought = {(1, 2): 3.0, (1, 5): 1.0, (3, 1): 2.0, (4, 5): 7.0}
    encoder = random_encoder(n_users=4, n_items=5, rank=3, rng=rng, bought=bought)
    users, items = rng.integers(5, size=40), rng.integers(6, size=(40, 6))  # unknown ones among them
    times = [datetime(2011, int(month), int(day), tzinfo=UTC) for month, day in rng.integers((1, 1), (13, 29), (40, 2))]
    joint = encoder.joint(users, times, items)
    assert joint.shape == (40, 6, encoder.n_features)
    expected = [
        [naive_joint(encoder, bought, int(user), time, int(item)) for item in row]
        for user, time, row in zip(users, times, items, strict=True)
    ]
    np.testing.assert_allclose(joint, expected, rtol=1e-12, atol=1e-12)


def test_unknown_customers_and_items_have_no_taste_and_no_past() -> None:
    stranger, nothing = ENCODER.joint(np.array([0]), [MONDAY], np.array([[2, 0]]))[0]
    basics, rank = 3 * len(SEGMENTS), 2
    assert stranger[:3].tolist() == ENCODER.item_basics[2].tolist()  # the unknown segment's
    assert not stranger[3:basics].any()
    assert not stranger[basics + rank : basics + 2 * rank].any()  # customer vector * item vector
    assert not stranger[-2:].any()
    assert nothing[0] == 1.0
    assert not nothing[1:].any()


def test_a_customer_is_known_by_what_he_bought_often() -> None:
    past = ENCODER.joint(np.array([1]), [MONDAY], np.array([[2, 3, 4]]))[0, :, -2:]
    np.testing.assert_allclose(past, [[1.0, log(4)], [1.0, log(2)], [0.0, 0.0]])


# What cannot be fitted is refused by name.


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="no column item_id; they have event_id, user_id"):
        fit(EVENTS.drop_columns(["item_id"]), EncoderConfig())


def test_too_few_items_or_customers() -> None:
    with pytest.raises(DataError, match="rank 3 needs more than 3 items and customers, got 4 items and 3 customers"):
        fit(EVENTS, EncoderConfig(rank=3))


def test_nothing_to_fit_on() -> None:
    with pytest.raises(DataError, match="no event has a user"):
        purchase_lines(purchases([(None, "lamp", 0, "1")]))


# What a shop has not is not asked for.


def test_without_sessions_a_day_is_one() -> None:
    lines = purchase_lines(EVENTS.drop_columns(["session"]))
    assert lines.groupby("user_id")["session"].nunique().to_dict() == {"ann": 3, "bob": 1, "cat": 1}
    some = EVENTS.set_column(EVENTS.column_names.index("session"), "session", pa.array(["1", *[None] * 8], pa.string()))
    assert purchase_lines(some).groupby("user_id")["session"].nunique().to_dict() == {"ann": 3, "bob": 1, "cat": 1}


def test_without_prices_nothing_is_known_of_them() -> None:
    encoder = fit(EVENTS.drop_columns(["price", "outcome", "session"]), EncoderConfig(rank=2))
    assert encoder.item_basics[:, 2].tolist() == [0.0] * 5
    np.testing.assert_array_equal(encoder.item_basics[:, :2], ENCODER.item_basics[:, :2])
    np.testing.assert_array_equal(encoder.item_vectors, ENCODER.item_vectors)
    assert purchase_lines(EVENTS.drop_columns(["price"]))["amount"].tolist() == [1.0] * 8  # pieces stand for money


def test_the_price_of_some_is_standardised_among_them() -> None:
    """The lamp costs 4 and the mug 2; that of the bowl is 0 and that of the vase is not known."""
    prices = pa.array([4.0, 4.0, 4.0, 2.0, 4.0, 0.0, 2.0, None, None])
    events = EVENTS.set_column(EVENTS.column_names.index("price"), "price", prices)
    assert fit(events, EncoderConfig(rank=2)).item_basics[:, 2].tolist() == pytest.approx([0, 0, 1, -1, 0])


def test_an_amount_is_that_of_all_pieces() -> None:
    lines = purchases([("ann", "lamp", 0, "1"), ("bob", "mug", 0, "2")], {"lamp": 12.0, "mug": 6.0}, pieces=3.0)
    found = purchase_lines(lines.rename_columns([n if n != "price" else "amount" for n in lines.column_names]))
    assert (found["price"].tolist(), found["amount"].tolist()) == ([4.0, 2.0], [12.0, 6.0])


def test_an_outcome_that_is_not_above_0_is_no_purchase() -> None:
    outcomes = pa.array([1.0, None, -1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    lines = purchase_lines(EVENTS.set_column(EVENTS.column_names.index("outcome"), "outcome", outcomes))
    assert lines["item_id"].tolist() == ["lamp", "lamp", "lamp", "bowl", "mug", "vase"]


def test_a_node_says_who_took_what_when() -> None:
    assert purchase_columns(load_node("online_retail")) == {
        "event_id": "event_id",
        "user_id": "user_id",
        "item_id": "item_id",
        "time": "time",
        "outcome": "outcome",
        "session": "session",
        "price": "unit_price",
    }
    with pytest.raises(DataError, match="node two has no column with the role item, time: there is nothing to learn"):
        purchase_columns(NodeSpec(name="two", columns=(Column(name="who", type="string", role="user"),)))
