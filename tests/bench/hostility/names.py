"""Odd ids, and names that are used again."""

from urllib.parse import quote

from tests.bench.hostility import values
from tests.bench.hostility.asks import Ask, feedback, recommend, spelled
from tests.bench.hostility.usual import NAMES, POLICIES, asked, ranked
from tests.bench.hostility.values import Rng, pick


def names(rng: Rng) -> Ask:
    """Ids of every kind in every place that takes one."""
    name = values.name(rng)
    shapes = (
        recommend(asked(rng) | {"user_id": name}),
        recommend(asked(rng, candidates=[name, "odd-1"])),
        recommend(asked(rng, decision_id=f"{name}-{rng.integers(10**9)}")),
        feedback({"decision_id": name, "kind": "click"}),
        feedback({"decision_id": "x", "kind": name}),
        Ask("PUT", "/v1/users/odd", spelled({"features": {name: name}})),
        ranked(rng, {"x": 1}, eventId=f"{name}-{rng.integers(10**9)}"),
    )  # fmt: skip
    return pick(rng, shapes)  # type: ignore[no-any-return]


def path_bytes(rng: Rng) -> Ask:
    """Ids in paths: percent-encoded, not UTF-8, with slashes and dots."""
    spelled_out = values.name(rng).encode(errors="surrogatepass")[:400]
    raw = spelled_out if rng.random() < 0.5 else rng.bytes(int(rng.integers(1, 12)))
    route = pick(rng, ("/v1/users/{}", "/v1/decisions/{}", "/v1/items/{}", "/personalizer/v1.0/events/{}/activate"))
    method = "POST" if "activate" in route else "GET"
    return Ask(method, route.format(quote(raw, safe="")))


def forget(rng: Rng) -> Ask:
    """Forget users that nobody is or that odd paths name."""
    return Ask("DELETE", f"/v1/users/nobody{quote(rng.bytes(2), safe='')}")


def equal_retries(rng: Rng) -> Ask:
    """The same request under the same name, again and again."""
    named = int(rng.integers(NAMES))
    body = {"user_id": f"user-{named % 7}", "policy": POLICIES[named % 3], "k": 2, "context": {"page": named % 5}}
    if named % 2:
        return recommend({**body, "decision_id": f"named-{named}"})
    return recommend(body, **{"Idempotency-Key": f"key-{named}"})


def other_retries(rng: Rng) -> Ask:
    """Another request under a name that is taken."""
    named = int(rng.integers(1, NAMES, endpoint=True)) | 1
    return recommend(asked(rng, decision_id=f"named-{named}", context={"page": values.text(rng)}))


def lists(rng: Rng) -> Ask:
    """Lists of requests, with and without a key, one of them odd."""
    several = [asked(rng) for _ in range(int(rng.integers(1, 6)))]
    if rng.random() < 0.3:
        several.append(asked(rng, context={"at": values.tree(rng, 2)}))
    return recommend(several, **({"Idempotency-Key": f"list-{rng.integers(NAMES)}"} if rng.random() < 0.5 else {}))


def reports(rng: Rng) -> Ask:
    """Feedback with odd values, weights, times and ids, late and about nothing."""
    report = {
        "decision_id": f"named-{int(rng.integers(NAMES)) | 1}",
        "kind": pick(rng, ("view", "click", "purchase", "custom", "dwell", values.text(rng))),
        "value": pick(rng, (1, 0, -1, 1e9, -1e9, 5e-324, 1e10, "1", None, True)),
        "item_id": pick(rng, (None, "odd-1", values.name(rng))),
    }
    if rng.random() < 0.3:
        report["feedback_id"] = f"report-{rng.integers(NAMES)}"
    if rng.random() < 0.2:
        report["time"] = pick(rng, values.TIMES)
    return feedback([report] if rng.random() < 0.3 else report)
