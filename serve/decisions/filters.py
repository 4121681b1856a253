"""From a request to the candidates and the rules of its decision: what is filtered out, counted.

The candidates are those of the request, or else what can be recommended: the policy's items and the catalogue's
available ones. Filters then remove items, in this order; each counts what those before it have left:

1. `excluded`              named in the request's `exclude`
2. `unavailable`           marked so, expired or deleted
3. `of another category`   none of the categories that are asked for
4. `of excluded categories`
5. `seen`, 6. `bought`     by the user, by what the log tells

A pinned item passes 3 to 6: who pins it wants it shown. It is a candidate even where the request or the catalogue does
not name it, but one that the configuration pins does not join the candidates that a request names. Pins of items that
do not get so far are dropped; so are configured pins of slots that the slate does not have.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from data.log.current.catalogue_copy import Catalogue
from data.log.current.users import NOTHING, Past
from data.schema import Rules
from rl.policy.errors import PolicyError
from serve.contracts.decisions import RecommendRequest
from serve.contracts.rules import BusinessRules, Lookback

MAX_CATALOGUE = 10_000
"""Candidates of a request that names none, at most: they are all scored, and logged."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a decision is made among, and under which rules."""

    candidates: tuple[str, ...]
    """Each once: in the request's order, or the policy's items in theirs and then the catalogue's by id. Pinned items
    that are not among them come last."""
    rules: Rules | None
    """Those that concern the candidates; None: there are none."""
    removed: Mapping[str, int]
    """How many items each filter has removed, in their order; filters that removed none are left out."""


def needs_past(request: RecommendRequest) -> bool:
    """Return whether `select` is to be given what the log tells of the request's user."""
    return request.user_id is not None and (request.filter.exclude_seen or request.filter.exclude_bought)


def lookback_starts(lookback: Lookback, now: datetime) -> tuple[datetime, datetime]:
    """Return since when what was seen and what was bought counts; see `data.log.current.users.past`."""
    return now - timedelta(seconds=lookback.seen_s), now - timedelta(seconds=lookback.bought_s)


def select(
    request: RecommendRequest,
    known: Sequence[str],
    catalogue: Catalogue,
    configured: BusinessRules,
    now: datetime,
    past: Past = NOTHING,
) -> Selection:
    """Return what is left to choose from.

    Args:
        request: the request.
        known: the policy's items.
        catalogue: the replica's.
        configured: the service's rules.
        now: the time by which items expire.
        past: of the request's user, where `needs_past` says so.

    Raises:
        PolicyError: no candidate is left, and why; or the catalogue has too many.
    """
    pins = _pins(request, configured)
    base = _base(request, known, catalogue, now)
    if pins:
        present = set(base)
        base += tuple(item for item in pins if item not in present)
    filters = _filters(request, catalogue, now, past, pins)
    candidates, removed = base, dict[str, int]()
    for name, passes in filters.items():
        passing = tuple(item for item in candidates if passes(item))
        if len(passing) < len(candidates):
            removed[name] = len(candidates) - len(passing)
        candidates = passing
    if not candidates:
        raise PolicyError(_why_none(removed, request))
    if len(candidates) > MAX_CATALOGUE:
        raise _too_many(len(candidates))
    return Selection(candidates, _rules(request, configured, catalogue, candidates, pins), removed)


def _pins(request: RecommendRequest, configured: BusinessRules) -> dict[str, int]:
    """Return the pins of the slate, by slot."""
    given = request.rules.pins if request.rules else None
    pins = (configured.pins or {}) if given is None else given
    if not pins:
        return {}
    if given is None and request.candidates is not None:
        named = set(request.candidates)
        pins = {item: slot for item, slot in pins.items() if item in named}
    return {item: slot for item, slot in sorted(pins.items(), key=lambda pin: pin[1]) if slot < request.k}


def _base(request: RecommendRequest, known: Sequence[str], catalogue: Catalogue, now: datetime) -> tuple[str, ...]:
    if request.candidates is not None:
        return tuple(dict.fromkeys(request.candidates))
    if not len(catalogue):
        return tuple(known)
    listed = catalogue.items(now, request.filter.categories, MAX_CATALOGUE + 1)
    if len(listed) > MAX_CATALOGUE:
        raise _too_many(None)
    of_policy = set(known)
    return (*known, *(item for item in listed if item not in of_policy))


def _filters(
    request: RecommendRequest, catalogue: Catalogue, now: datetime, past: Past, pins: Collection[str]
) -> dict[str, Callable[[str], bool]]:
    """Return what an item must pass, by name, in order."""
    wish, filters = request.filter, dict[str, Callable[[str], bool]]()
    if request.exclude:
        excluded = frozenset(request.exclude)
        filters["excluded"] = lambda item: item not in excluded
    if wish.available_only and len(catalogue):
        filters["unavailable"] = lambda item: catalogue.available(item, now)
    if wish.categories is not None:
        wanted = frozenset(wish.categories)
        filters["of another category"] = lambda item: (
            item in pins or not wanted.isdisjoint(catalogue.categories_of(item))
        )
    if wish.exclude_categories:
        unwanted = frozenset(wish.exclude_categories)
        filters["of excluded categories"] = lambda item: (
            item in pins or unwanted.isdisjoint(catalogue.categories_of(item))
        )
    if wish.exclude_seen and past.seen:
        filters["seen"] = lambda item: item in pins or item not in past.seen
    if wish.exclude_bought and past.bought:
        filters["bought"] = lambda item: item in pins or item not in past.bought
    return filters


def _rules(
    request: RecommendRequest,
    configured: BusinessRules,
    catalogue: Catalogue,
    candidates: Sequence[str],
    pins: Mapping[str, int],
) -> Rules | None:
    """Return the rules that concern the candidates, so that the log holds no others."""
    given = request.rules or BusinessRules()
    boosts = (configured.boosts or {}) if given.boosts is None else given.boosts
    caps = (configured.caps or {}) if given.caps is None else given.caps
    if not (pins or boosts or caps):
        return None
    remaining = set(candidates)
    categories = {
        item: found for item in candidates if caps and (found := _keep_capped(catalogue.categories_of(item), caps))
    }
    capped = {category for found in categories.values() for category in found}
    rules = Rules.model_construct(
        pins={item: slot for item, slot in pins.items() if item in remaining},
        boosts={item: boost for item, boost in boosts.items() if item in remaining},
        caps={category: cap for category, cap in caps.items() if category in capped},
        categories=categories,
    )
    return rules if rules.pins or rules.boosts or rules.caps else None


def _keep_capped(categories: Sequence[str], caps: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(category for category in categories if category in caps)


def _why_none(removed: Mapping[str, int], request: RecommendRequest) -> str:
    if not removed:
        return "no candidate is left: the policy and the catalogue have no item; upsert some, or name candidates"
    counts = ", ".join(f"{count:,} {name}" for name, count in removed.items())
    advice = "name others" if request.candidates is not None else "upsert items"
    return f"no candidate is left: {counts}; {advice}, or filter less"


def _too_many(count: int | None) -> PolicyError:
    found = "more" if count is None else f"{count:,}"
    return PolicyError(
        f"at most {MAX_CATALOGUE:,} items can be candidates, the catalogue has {found}: name candidates, or categories"
    )
