"""Items in the store and a replica's copy of them: batches, revisions, expiry, and what nobody has told of."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.log.current.catalogue_copy import Catalogue
from data.log.current.items import (
    Item,
    delete,
    get,
    page,
    upsert,
)
from data.log.store import Store
from tests.support.clocks import NOON, Clock

HOUR = timedelta(hours=1)


def put(store: Store, *ids: str, **fields: Any) -> list[Any]:
    return upsert(store, [Item(item_id=item, **fields) for item in ids])


def listed(store: Store, after: int = 0, limit: int = 100, **filters: Any) -> list[str]:
    return [item.item_id for item in page(store, after, limit, **filters)]


def test_an_item_comes_back_as_it_was_put(store: Store, clock: Clock) -> None:
    features = {"colour": "rød", "sizes": [1, 2.5, None], "deep": {"a": {"b": True}}, "large": 10**15}
    item = Item(item_id="x", features=features, categories=("red", "big"), available=False, expires_at=NOON + HOUR)
    assert upsert(store, [item]) == ["created"]
    found = get(store, "x")
    assert found is not None
    assert found.model_dump() == item.model_dump() | {"updated_at": NOON, "revision": 1}
    assert get(store, "y") is None


def test_the_same_again_changes_nothing(store: Store, clock: Clock) -> None:
    assert put(store, "a", "b", features={"n": 1}) == ["created", "created"]
    clock.now += HOUR
    assert put(store, "b", "c", features={"n": 1}) == ["unchanged", "created"]
    assert put(store, "b", features={"n": True}) == ["changed"]
    revisions = {item.item_id: (item.revision, item.updated_at) for item in page(store, 0, 10)}
    assert revisions == {"a": (1, NOON), "c": (3, NOON + HOUR), "b": (4, NOON + HOUR)}


def test_of_several_with_one_id_the_last_counts(store: Store) -> None:
    items = [Item(item_id="a", features={"n": n}) for n in range(3)]
    assert upsert(store, items) == ["created"] * 3
    found = get(store, "a")
    assert found is not None
    assert found.features == {"n": 2}
    assert found.revision == 1


def test_pages_follow_the_changes(store: Store) -> None:
    put(store, "c", "a", "b")
    assert listed(store, limit=2) == ["c", "a"]
    put(store, "c", available=False)
    assert listed(store, after=2) == ["b", "c"]
    assert listed(store, after=4) == []


def test_lists_by_category_and_availability(store: Store, clock: Clock) -> None:
    put(store, "a", categories=("red",))
    put(store, "b", categories=("red", "big"), available=False)
    put(store, "c", categories=("big",), expires_at=NOON + HOUR)
    put(store, "d", categories=('r"ed',))
    assert listed(store, category="red") == ["a", "b"]
    assert listed(store, category='r"ed') == ["d"]
    assert listed(store, category="big", available=True) == ["c"]
    assert listed(store, available=False) == ["b"]
    clock.now += HOUR
    assert listed(store, available=False) == ["b", "c"]


def test_a_deleted_item_is_gone_and_can_come_back(store: Store) -> None:
    put(store, "a", "b", features={"secret": 1}, categories=("red",))
    catalogue = Catalogue()
    catalogue.refresh(store)
    assert delete(store, "a")
    assert not delete(store, "a")
    assert not delete(store, "never")
    assert get(store, "a") is None
    assert listed(store) == ["b"]
    assert catalogue.refresh(store) == 1
    assert not catalogue.available("a", NOON)
    assert catalogue.features_of("a") == {}
    assert catalogue.items(NOON, ["red"]) == ("b",)
    assert put(store, "a") == ["created"]
    catalogue.refresh(store)
    assert catalogue.available("a", NOON)


def test_a_refresh_reads_only_what_has_changed(store: Store) -> None:
    catalogue = Catalogue()
    put(store, *"abc", features={"n": 1}, categories=("red",))
    assert catalogue.refresh(store) == 3
    assert catalogue.refresh(store) == 0
    put(store, *"abc", features={"n": 1}, categories=("red",))
    assert catalogue.refresh(store) == 0
    put(store, "b", features={"n": 2}, categories=("big",))
    assert catalogue.refresh(store) == 1
    assert catalogue.features_of("b") == {"n": 2}
    assert catalogue.categories_of("b") == ("big",)
    assert catalogue.items(NOON, ["red"]) == ("a", "c")
    assert catalogue.items(NOON, ["red", "big", "unknown"]) == ("a", "b", "c")
    assert catalogue.items(NOON, []) == ()
    assert len(catalogue) == 3


def test_items_expire_by_the_clock(store: Store) -> None:
    put(store, "d", categories=("red",))
    put(store, "a", categories=("red",), expires_at=NOON + HOUR)
    put(store, "c", expires_at=NOON + 2 * HOUR)
    catalogue = Catalogue()
    catalogue.refresh(store)
    just_before = NOON + HOUR - timedelta(microseconds=1)
    assert catalogue.items(just_before) == ("a", "c", "d")
    assert catalogue.items(NOON + HOUR) == ("c", "d")
    assert catalogue.items(NOON + HOUR, ["red"]) == ("d",)
    assert catalogue.items(NOON + 2 * HOUR) == ("d",)
    assert catalogue.items(NOON + HOUR) == ("c", "d")
    assert catalogue.items(NOON, limit=2) == ("a", "c")
    assert catalogue.available("a", just_before)
    assert not catalogue.available("a", NOON + HOUR)
    put(store, "a", expires_at=NOON + 3 * HOUR)
    catalogue.refresh(store)
    assert catalogue.items(NOON + 2 * HOUR) == ("a", "d")


def test_what_nobody_has_told_of_is_available() -> None:
    catalogue = Catalogue()
    assert catalogue.available("anything", NOON)
    assert catalogue.items(NOON) == ()
    assert catalogue.categories_of("anything") == ()
    assert catalogue.features_of("anything") == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": {"price": float("nan")}}, "price must be a number from"),
        ({"features": {"a": [{"b": float("inf")}]}}, r"a\[0\]\.b must be a number from"),
        ({"features": {"name": "\ud800"}}, "valid"),
        ({"item_id": ""}, "an id is a text of 1 to 256 characters"),
        ({"categories": [""]}, "an id is a text of 1 to 256 characters"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_stored_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Item.model_validate({"item_id": "a"} | fields)


def test_a_text_that_reads_like_nan_is_a_text(store: Store) -> None:
    put(store, "a", features={"name": "NaN"})
    found = get(store, "a")
    assert found is not None
    assert found.features == {"name": "NaN"}


steps = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from(["put", "hide", "delete", "refresh"]),
        st.sets(st.sampled_from(["red", "big"])),
        st.integers(0, 4),
    ),
    max_size=20,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_a_copy_that_follows_is_a_copy_made_at_once(new_url: Callable[[str], str], steps: list[Any]) -> None:
    store = Store.open(new_url(uuid4().hex), lambda: NOON)
    follower = Catalogue()
    for item, what, categories, hours in steps:
        if what == "delete":
            delete(store, item)
        elif what == "refresh":
            follower.refresh(store)
        else:
            expires = NOON + hours * HOUR if hours else None
            put(store, item, categories=tuple(categories), available=what == "put", expires_at=expires)
    follower.refresh(store)
    fresh = Catalogue()
    fresh.refresh(store)
    for hours in range(5):
        now = NOON + hours * HOUR
        by_hand = {item.item_id for item in page(store, 0, 100) if item.available}
        by_hand = {i for i in by_hand if (e := getattr(get(store, i), "expires_at")) is None or e > now}  # noqa: B009
        assert set(follower.items(now)) == by_hand
        for categories in (None, ["red"], ["big", "red"]):
            assert follower.items(now, categories) == fresh.items(now, categories)
            assert list(fresh.items(now, categories)) == sorted(set(fresh.items(now, categories)))
    store.close()
