"""The kinds of probes: each draws one request. Some are to be taken, some refused; none may stop anything."""

from collections.abc import Callable, Mapping

from tests.bench.hostility import bodies, features, names, personalizer
from tests.bench.hostility.asks import Ask
from tests.bench.hostility.values import Rng

Kind = Callable[[Rng], Ask]

KINDS: Mapping[str, Kind] = {
    kind.__name__: kind
    for kind in (
        features.tags_of_items,
        features.features_of_users,
        features.any_json_as_features,
        features.nesting,
        features.many_features,
        features.large_numbers,
        features.numbers_beyond,
        features.contexts,
        names.names,
        names.path_bytes,
        names.forget,
        names.equal_retries,
        names.other_retries,
        names.lists,
        names.reports,
        bodies.rules,
        bodies.rows_of_nodes,
        bodies.broken_bodies,
        bodies.swapped_types,
        bodies.other_routes,
        personalizer.ranks,
        personalizer.slots,
        personalizer.rewards,
        personalizer.policy_texts,
    )
}
_RARE = {"many_features": 0.3, "forget": 0.05, "policy_texts": 0.2, "nesting": 0.5}


def draw(rng: Rng) -> tuple[str, Ask]:
    """Draw a kind and a request of it."""
    weights = [_RARE.get(kind, 1.0) for kind in KINDS]
    kind = list(KINDS)[int(rng.choice(len(KINDS), p=[weight / sum(weights) for weight in weights]))]
    return kind, KINDS[kind](rng)
