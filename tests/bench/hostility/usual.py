"""The usual requests that odd ones are made of."""

from typing import Any

from tests.bench.hostility import values
from tests.bench.hostility.asks import Ask, items, rank
from tests.bench.hostility.values import Rng, pick

POLICIES = ("described", "linear_thompson", "rfm_bandit")
ITEMS, NAMES = 40, 500
"""How many ids of odd items, and of decisions, keys and reports, are used again and again."""


def asked(rng: Rng, **more: Any) -> dict[str, Any]:
    return {"user_id": f"user-{rng.integers(200)}", "policy": pick(rng, POLICIES), "k": int(rng.integers(1, 5)), **more}


def item(rng: Rng, features: Any) -> Ask:
    return items({"items": [{"item_id": f"odd-{rng.integers(ITEMS)}", "features": features}]})


def ranked(rng: Rng, features: Any, **more: Any) -> Ask:
    actions = [{"id": f"a{n}", "features": [features if n == 1 else {"n": n}]} for n in range(3)]
    return rank({"actions": actions, "contextFeatures": [{"who": values.text(rng)}], **more})
