"""JSON features as ids: names, categories, numbers, namespaces, what is refused, and the same ids in every process."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from data.feature_objects import FeatureError
from data.schema import Decision, Features, Slot
from rl.encoders.description import describe, restore
from rl.encoders.json_features import (
    FeaturesEncoder,
    add_slot_features,
    categorical,
    feature_id,
    flatten,
    letters,
)
from rl.encoders.visit import Visit
from rl.policy.queries import Impressions, Query, Slates
from rl.policy.sparse import Sparse

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def flat(*described: Any) -> list[tuple[int, float]]:
    return flatten(described)


def visit(candidates: tuple[str, ...], features: Features | None = None, **context: str) -> Visit:
    return Visit(None, TIME, candidates, context, features)


def test_ids_are_the_same_in_every_process_and_are_exact_as_floats() -> None:
    assert feature_id("user", "device", "mobile") == 0x955726BBC26EB
    assert feature_id("", "age") == 0xA4726E820BC40
    ids = np.array([feature_id("n", "x", str(i)) for i in range(1000)])
    assert len(set(ids.tolist())) == 1000
    assert (ids > 0).all()
    assert (ids < 1 << 52).all()
    np.testing.assert_array_equal(ids.astype(np.float64).astype(np.int64), ids)


def test_every_kind_of_value() -> None:
    found = flat(
        {"user": {"age": 33, "device": "mobile", "new": True, "vip": False, "none": None}}, {"v": [1, 2.5], "e": []}
    )
    assert found == [
        (feature_id("user", "age"), 33.0),
        (feature_id("user", "device", "mobile"), 1.0),
        (feature_id("user", "new", True), 1.0),
        (feature_id("user", "vip", False), 1.0),
        (feature_id("", "v[0]"), 1.0),
        (feature_id("", "v[1]"), 2.5),
    ]


def test_what_differs_has_another_id() -> None:
    names = [("a", "b", "c"), ("", "a.b", "c"), ("a", "bc", ""), ("a", "b", None), ("a", "b", True), ("a", "b", "True")]
    assert len({feature_id(*name) for name in names}) == len(names)


def test_namespaces_nest_and_the_innermost_says_the_letter() -> None:
    [(found, _)] = flat({"user": {"home": {"city": "Ulm"}}})
    assert found == feature_id("user.home", "city", "Ulm")
    ids = np.array([found, feature_id("", "age")])
    assert [chr(code) for code in letters(ids)] == ["h", " "]
    assert categorical(ids).tolist() == [True, False]


def test_strings_and_truth_values_of_a_list_are_categories_whatever_their_order_and_number() -> None:
    tags = sorted(feature_id("item", "tags", tag) for tag in ("winter", "outdoor"))
    for given in (["outdoor", "winter"], ["winter", "outdoor", "winter"], [["winter"], [None, ["outdoor"]]]):
        assert flat({"item": {"tags": given}}) == [(tag, 1.0) for tag in tags]
    assert flat({"item": {"tags": "winter"}}) == flat({"item": {"tags": ["winter"]}})
    assert flat({"seen": [True, True]}) == flat({"seen": True})
    assert len(flat({"seen": [True, "True", False]})) == 3


def test_a_mixed_list_is_taken_entry_by_entry() -> None:
    assert flat({"m": [2, "a", None, 1.5, [], {}, [3, ["a", 4.0]], True]}) == [
        (feature_id("", "m[0]"), 2.0),
        (feature_id("", "m[3]"), 1.5),
        (feature_id("", "m[6][0]"), 3.0),
        (feature_id("", "m[6][1][1]"), 4.0),
        *((found, 1.0) for found in sorted([feature_id("", "m", "a"), feature_id("", "m", True)])),
    ]


def test_objects_of_a_list_are_objects_of_its_name() -> None:
    basket = [{"brand": "Klee", "price": 9.5}, {"brand": "Nordwand", "price": 149.0}, [{"brand": "Klee"}]]
    assert flat({"user": {"basket": basket}}) == [
        (feature_id("user.basket", "price"), 9.5),
        (feature_id("user.basket", "price"), 149.0),
        *((brand, 1.0) for brand in sorted(feature_id("user.basket", "brand", b) for b in ("Klee", "Nordwand"))),
    ]
    assert flat({"basket": basket[:1]}) == flat({"basket": basket[0]})[::-1]


def test_what_was_logged_before_there_were_bounds_is_encoded_too() -> None:
    deep: dict[str, object] = {"a": 1}
    for _ in range(150):
        deep = {"b": [deep]}
    assert flat({"a": 1.7e308, "b": deep, "long" * 200: 1, "c": 2}, {"x": 10**18}) == [
        (feature_id("", "a"), 1.7e308),
        (feature_id(".".join("b" * 151), "a"), 1.0),
        (feature_id("", "long" * 200), 1.0),
        (feature_id("", "c"), 2.0),
        (feature_id("", "x"), 1e18),
    ]
    assert flat({"a": float("nan"), "b": float("inf"), "c": 10**400, "d": [10**400, float("nan")]}) == []


def test_long_texts_do_not_stay_in_memory() -> None:
    before = feature_id.cache_info().currsize
    found = flat({"text": "x" * 257, "n" * 300: {"y": 1, "z": ["w", 2]}})
    assert feature_id.cache_info().currsize == before
    names = [("", "text", "x" * 257), ("n" * 300, "y"), ("n" * 300, "z[1]"), ("n" * 300, "z", "w")]
    assert found == [
        (feature_id(*name), 1.0 if len(name) == 3 else value)
        for name, value in zip(names, (1, 1.0, 2.0, 1), strict=True)
    ]


def test_a_query_has_the_ids_of_context_and_items_padded() -> None:
    features = Features(context=({"user": "Ann"},), items=(({"hot": 1.5},), ()))
    query = FeaturesEncoder(("tea",)).query([visit(("tea", "milk"), features)])
    assert query.sparse is not None
    assert query.items.tolist() == [[1, 0]]
    assert query.sparse.context.tolist() == [[feature_id("", "user", "Ann")]]
    tea, milk = feature_id("i", "id", "tea"), feature_id("i", "id", "milk")
    assert query.sparse.items.tolist() == [[[tea, feature_id("", "hot")], [milk, 0]]]
    assert query.sparse.item_values.tolist() == [[[1.0, 1.5], [1.0, 0.0]]]


def test_without_features_the_flat_context_and_the_ids_are_all() -> None:
    query = FeaturesEncoder(()).query([visit(("a",), page="home", time="2026-01-01T00:00:00Z")])
    assert query.sparse is not None
    assert query.sparse.context.tolist() == [[feature_id("", "page", "home")]]
    assert query.sparse.items.tolist() == [[[feature_id("i", "id", "a")]]]


def test_features_are_of_every_candidate() -> None:
    with pytest.raises(FeatureError, match="got 1 for 2 candidates"):
        FeaturesEncoder(()).query([visit(("a", "b"), Features(items=(({"x": 1},),)))])
    decision: dict[str, Any] = {
        "decision_id": "d", "time": TIME, "candidates": ("a", "b"), "slate": ("a",), "propensities": (1.0,),
        "scores": (0.0,), "policy": "p", "policy_version": "1",
    }  # fmt: skip
    with pytest.raises(ValueError, match="got 1 for 2 candidates"):
        Decision(**decision, features=Features(items=(({"x": 1},),)))


def test_a_slot_adds_its_id_and_its_features_to_the_context() -> None:
    slot = Slot(slot_id="hero", features=({"size": "large"},))
    found = add_slot_features(Features(context=({"user": "Ann"},), items=(({"x": 1},),)), slot)
    assert found.context == ({"user": "Ann"}, {"slot": {"id": "hero"}}, {"size": "large"})
    assert found.items == (({"x": 1},),)
    assert add_slot_features(None, slot).context == ({"slot": {"id": "hero"}}, {"size": "large"})


def test_an_artefact_can_have_the_encoder() -> None:
    encoder = FeaturesEncoder(("a", "b"))
    description, arrays = describe(encoder)
    assert description.kind == "features"
    again = restore(description, arrays)
    assert isinstance(again, FeaturesEncoder)
    assert again.items == encoder.items


def test_observations_carry_the_features_of_what_was_shown() -> None:
    features = Features(context=({"user": "Ann"},), items=(({"x": 1},), ({"x": 2}, {"y": 3}), ()))
    query: Query = FeaturesEncoder(()).query([visit(("a", "b", "c"), features)])
    shown = Slates(np.array([[2, 1]]), np.ones((1, 2)), np.zeros((1, 2)))
    seen = Impressions.of_slates(query, shown, np.array([[1.0, 0.0]]))
    assert seen.sparse is not None
    assert seen.sparse.item_values.tolist() == [[[1.0, 0.0, 0.0]], [[1.0, 2.0, 3.0]]]
    assert seen.sparse.context.tolist() == [[feature_id("", "user", "Ann")]] * 2
    narrow = FeaturesEncoder(()).query([visit(("a",))])
    other = Impressions.of_slates(
        narrow, Slates(np.zeros((1, 1), np.int64), np.ones((1, 1)), np.zeros((1, 1))), np.ones((1, 1))
    )
    both = Impressions.concatenate([other, seen])
    assert both.sparse is not None
    assert both.sparse.context.shape == (3, 1)
    assert both.sparse.items.shape == (3, 1, 3)
    assert both.sparse.item_values[0, 0].tolist() == [1.0, 0.0, 0.0]
    assert isinstance(both.rows(slice(1, 2)).sparse, Sparse)
