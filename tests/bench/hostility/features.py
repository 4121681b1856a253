"""Odd features of items, users, contexts and actions."""

from tests.bench.hostility import values
from tests.bench.hostility.asks import Ask, feedback, recommend, spelled
from tests.bench.hostility.usual import NAMES, asked, item, ranked
from tests.bench.hostility.values import Rng, pick


def tags_of_items(rng: Rng) -> Ask:
    """Items with tags, embeddings and nested objects, in the catalogue that everybody is recommended from."""
    return item(rng, values.features(rng))


def features_of_users(rng: Rng) -> Ask:
    """The same of users."""
    user = f"user-{rng.integers(200)}"
    body = spelled({"features": values.features(rng)})
    return Ask("PUT", f"/v1/users/{user}", body, promises=lambda _: [("user", user)])


def any_json_as_features(rng: Rng) -> Ask:
    """Any JSON where an object of features is wanted."""
    return item(rng, values.tree(rng, 4))


def nesting(rng: Rng) -> Ask:
    """Objects and lists within each other, up to ten thousand deep."""
    levels = int(rng.choice((3, 20, 31, 32, 33, 40, 200)))
    inner = values.deep(levels, values.scalar(rng), lists=bool(rng.random() < 0.5))
    if rng.random() < 0.1:
        return Ask("POST", "/v1/recommend", b'{"context":{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}}")
    return pick(rng, (item, ranked))(rng, {"d": inner})  # type: ignore[no-any-return]


def many_features(rng: Rng) -> Ask:
    """Hundreds of features in one object."""
    count = int(rng.choice((50, 200, 1_000, 10_000), p=(0.6, 0.3, 0.05, 0.05)))
    return ranked(rng, {f"f{n}": n for n in range(count)})


def large_numbers(rng: Rng) -> Ask:
    """Numbers up to the bound, in a context, an item, a rank."""
    big = values.number(rng)
    shapes = (
        recommend(asked(rng, context={"at": big})),
        item(rng, {"stock": big}),
        ranked(rng, {"at": big, "by": big}),
    )
    return pick(rng, shapes)  # type: ignore[no-any-return]


def numbers_beyond(rng: Rng) -> Ask:
    """Numbers beyond the bound, infinities, and what is none."""
    big = values.beyond(rng)
    report = {"decision_id": f"named-{rng.integers(NAMES)}", "kind": "click", "value": big}
    shapes = (
        recommend(asked(rng, context={"at": big})),
        item(rng, {"stock": big}),
        ranked(rng, {"at": [big]}),
        feedback(report),
    )
    return pick(rng, shapes)  # type: ignore[no-any-return]


def contexts(rng: Rng) -> Ask:
    """Contexts with odd names, values and times."""
    context = {values.text(rng)[:60] or "n": values.scalar(rng) for _ in range(int(rng.integers(1, 5)))}
    if rng.random() < 0.3:
        context["time"] = pick(rng, values.TIMES)
    if rng.random() < 0.2:
        context["odd"] = values.odd_text(rng)
    return recommend(asked(rng, context=context))
