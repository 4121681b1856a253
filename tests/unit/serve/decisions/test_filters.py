"""From a request to candidates and rules: each filter by hand, what is counted, what is said when nothing is left."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.log.current.catalogue_copy import Catalogue
from data.log.current.items import Item, delete, upsert
from data.log.current.users import Past
from data.log.store import Store
from data.schema import Rules
from rl.encoders.visit import Visit
from rl.policy.errors import PolicyError
from rl.policy.rules import rules_constraint
from serve.config import ServiceConfig
from serve.contracts.decisions import RecommendRequest
from serve.contracts.rules import BusinessRules, Lookback
from serve.decisions.filters import (
    MAX_CATALOGUE,
    Selection,
    lookback_starts,
    needs_past,
    select,
)
from tests.support.clocks import NOON
from tests.support.shops import recommender, small_market, untrained

HOUR = timedelta(hours=1)
KNOWN = tuple("abcdef")
PAST = Past(seen=frozenset("ab"), bought=frozenset("bc"))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """a, b red; c red and big, hidden; d expires in an hour; e deleted; x, y not known to the policy; f not told of."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('shop') / 'store.db'}", lambda: NOON)
    upsert(
        store,
        [
            Item(item_id="a", categories=("red",)),
            Item(item_id="b", categories=("red", "big")),
            Item(item_id="c", categories=("red", "big"), available=False),
            Item(item_id="d", categories=("big",), expires_at=NOON + HOUR),
            Item(item_id="e"),
            Item(item_id="y", categories=("new",)),
            Item(item_id="x", categories=("new", "red")),
        ],
    )
    delete(store, "e")
    catalogue = Catalogue()
    catalogue.refresh(store)
    yield catalogue
    store.close()


def ask(**fields: Any) -> RecommendRequest:
    return RecommendRequest.model_validate(fields)


def chosen(catalogue: Catalogue, past: Past = PAST, **fields: Any) -> Selection:
    configured = fields.pop("configured", BusinessRules())
    return select(ask(**fields), KNOWN, catalogue, configured, fields.pop("now", NOON), past)


def test_a_shop_without_a_catalogue_has_its_policys_items() -> None:
    assert select(ask(), KNOWN, Catalogue(), BusinessRules(), NOON) == Selection(KNOWN, None, {})


def test_what_can_be_recommended_is_the_policys_items_and_the_catalogues(catalogue: Catalogue) -> None:
    selection = chosen(catalogue)
    assert selection.candidates == ("a", "b", "d", "f", "x", "y")
    assert selection.removed == {"unavailable": 2}
    later = select(ask(), KNOWN, catalogue, BusinessRules(), NOON + HOUR)
    assert later.candidates == ("a", "b", "f", "x", "y")
    assert later.removed == {"unavailable": 3}


def test_candidates_keep_their_order_and_count_once(catalogue: Catalogue) -> None:
    """A cold item, of which nobody has told, is as good as any."""
    selection = chosen(catalogue, candidates=["cold", "c", "a", "e", "a"])
    assert (selection.candidates, selection.removed) == (("cold", "a"), {"unavailable": 2})
    anything = chosen(catalogue, candidates=["c", "e"], filter={"available_only": False})
    assert (anything.candidates, anything.removed) == (("c", "e"), {})


@pytest.mark.parametrize(
    ("fields", "candidates", "removed"),
    [
        ({"exclude": ["a", "zz"]}, "bdfxy", {"excluded": 1, "unavailable": 2}),
        ({"filter": {"categories": ["red"]}}, "abx", {"unavailable": 2, "of another category": 2}),
        ({"filter": {"categories": ["new", "big"]}}, "bdxy", {"unavailable": 2, "of another category": 2}),
        ({"filter": {"exclude_categories": ["red"]}}, "dfy", {"unavailable": 2, "of excluded categories": 3}),
        ({"filter": {"exclude_seen": True}}, "dfxy", {"unavailable": 2, "seen": 2}),
        ({"filter": {"exclude_bought": True}}, "adfxy", {"unavailable": 2, "bought": 1}),
        (
            {"exclude": ["x"], "filter": {"categories": ["red"], "exclude_bought": True}},
            "a",
            {"excluded": 1, "unavailable": 2, "of another category": 2, "bought": 1},
        ),
    ],
)
def test_filters_by_hand(
    catalogue: Catalogue, fields: dict[str, Any], candidates: str, removed: dict[str, int]
) -> None:
    selection = chosen(catalogue, **fields)
    assert selection.candidates == tuple(candidates)
    assert selection.removed == removed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"candidates": ["a", "c", "e", "f"], "exclude": ["a"], "filter": {"categories": ["big"]}},
            "no candidate is left: 1 excluded, 2 unavailable, 1 of another category; name others, or filter less",
        ),
        (
            {"filter": {"categories": ["none"]}},
            "no candidate is left: 2 unavailable, 4 of another category; upsert items, or filter less",
        ),
        ({"candidates": ["a", "b"], "filter": {"exclude_seen": True}}, "no candidate is left: 2 seen; name others"),
    ],
)
def test_an_empty_set_says_why(catalogue: Catalogue, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        chosen(catalogue, **fields)


def test_a_service_without_any_item_says_so() -> None:
    with pytest.raises(PolicyError, match="the policy and the catalogue have no item"):
        select(ask(), (), Catalogue(), BusinessRules(), NOON)


def test_pinned_items_pass_the_filters_of_taste_but_not_those_of_fact(catalogue: Catalogue) -> None:
    """Seen was a, bought was b, y is of another category: shown all the same. c is unavailable, f is excluded."""
    pins = {"y": 0, "b": 1, "a": 2, "c": 3, "f": 4}
    wish = {"categories": ["none"], "exclude_categories": ["red"], "exclude_seen": True, "exclude_bought": True}
    selection = chosen(catalogue, exclude=["f"], filter=wish, rules={"pins": pins})
    assert selection.candidates == ("a", "b", "y")
    assert selection.rules == Rules(pins={"y": 0, "b": 1, "a": 2})
    rules_constraint(selection.candidates, selection.rules)  # it can be kept


def test_pins_join_the_candidates_if_the_request_gives_them(catalogue: Catalogue) -> None:
    given = chosen(catalogue, candidates=["b", "d"], rules={"pins": {"cold": 2, "x": 0}})
    assert given.candidates == ("b", "d", "x", "cold")
    configured = BusinessRules(pins={"x": 0, "d": 1})
    named = chosen(catalogue, candidates=["b", "d"], configured=configured)
    assert named.candidates == ("b", "d")
    assert named.rules == Rules(pins={"d": 1})
    unnamed = chosen(catalogue, configured=BusinessRules(pins={"cold": 0}))
    assert unnamed.candidates == ("a", "b", "d", "f", "x", "y", "cold")


def test_configured_pins_beyond_the_slate_are_nothing_special(catalogue: Catalogue) -> None:
    selection = chosen(catalogue, k=2, configured=BusinessRules(pins={"a": 2, "b": 1}))
    assert selection.rules == Rules(pins={"b": 1})
    assert "a" in selection.candidates


def test_rules_of_a_request_replace_the_configured_ones_of_their_kind(catalogue: Catalogue) -> None:
    configured = BusinessRules(pins={"a": 0}, boosts={"b": 1.0, "zz": 5.0}, caps={"red": 1, "unused": 3})
    as_configured = chosen(catalogue, configured=configured)
    categories = {"a": ("red",), "b": ("red",), "x": ("red",)}
    assert as_configured.rules == Rules(pins={"a": 0}, boosts={"b": 1.0}, caps={"red": 1}, categories=categories)
    other = chosen(catalogue, configured=configured, rules={"boosts": {"d": 2.0}, "caps": {}})
    assert other.rules == Rules(pins={"a": 0}, boosts={"d": 2.0})
    assert chosen(catalogue, configured=configured, rules={"pins": {}, "boosts": {}, "caps": {}}).rules is None


def test_a_decision_keeps_what_was_selected(catalogue: Catalogue) -> None:
    """Three red items may be shown and one is allowed, the pinned one; fewer candidates than k are a shorter slate."""
    policies = recommender({"random": untrained(small_market()[1], "random")}, {"random": 1.0})
    selection = chosen(catalogue, rules={"pins": {"b": 1}, "caps": {"red": 1}, "boosts": {"d": 1.0}}, user_id="cold")
    slates = set()
    for number in range(200):
        decision = policies.decide(
            Visit("cold", NOON, selection.candidates, decision_id=f"{number}", k=10, rules=selection.rules)
        )
        slates.add(decision.slate)
        assert decision.propensities == (1 / 3, 1.0, 0.5, 1.0)
    assert len(slates) == 6  # d, f and y around b
    assert {slate[1] for slate in slates} == {"b"}


@pytest.mark.heavy
def test_too_large_a_catalogue_must_be_narrowed(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}", lambda: NOON)
    many = [Item(item_id=f"{n}", categories=("few",) if n < 5 else ()) for n in range(MAX_CATALOGUE + 1)]
    upsert(store, many)
    catalogue = Catalogue()
    catalogue.refresh(store)
    store.close()
    with pytest.raises(PolicyError, match="at most 10,000 items can be candidates, the catalogue has more"):
        select(ask(), (), catalogue, BusinessRules(), NOON)
    assert len(select(ask(filter={"categories": ["few"]}), (), catalogue, BusinessRules(), NOON).candidates) == 5
    assert select(ask(candidates=["7"]), (), catalogue, BusinessRules(), NOON).candidates == ("7",)


def test_the_past_is_asked_for_only_where_it_matters() -> None:
    assert needs_past(ask(user_id="u", filter={"exclude_seen": True}))
    assert needs_past(ask(user_id="u", filter={"exclude_bought": True}))
    assert not needs_past(ask(user_id="u"))
    assert not needs_past(ask(filter={"exclude_seen": True}))  # nobody has seen anything
    assert lookback_starts(Lookback(seen_s=60, bought_s=3600), NOON) == (NOON - timedelta(minutes=1), NOON - HOUR)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rules": {"pins": {"a": 10}}}, "pinned to slot 10, and the slate has slots 0 to 9"),
        ({"rules": {"pins": {"a": 2}}, "k": 2}, "pinned to slot 2, and the slate has slots 0 to 1"),
        ({"rules": {"pins": {"a": -1}}}, "greater than or equal to 0"),
        ({"rules": {"pins": {"a": 1, "b": 1}}}, "only one item can be pinned to a slot, several are to 1"),
        ({"rules": {"caps": {"red": -1}}}, "greater than or equal to 0"),
        ({"rules": {"boosts": {"a": float("inf")}}}, "finite number"),
        ({"rules": {"pin": {}}}, "Extra inputs"),
        ({"filter": {"category": "red"}}, "Extra inputs"),
        ({"candidates": [f"{n}" for n in range(1001)]}, "at most 1000"),
        ({"filter": {"categories": [f"{n}" for n in range(1001)]}}, "at most 1000"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ask(**fields)


def test_rules_can_be_configured() -> None:
    config = ServiceConfig.model_validate({"rules": {"caps": {"red": 2}}, "memory": {"seen_s": 60}, "home": "there"})
    assert config.rules.caps == {"red": 2}
    assert config.settings.archive_uri.endswith("there/archive")
