"""Odd requests to the Personalizer API."""

from tests.bench.hostility import values
from tests.bench.hostility.asks import Ask, post, rank, spelled
from tests.bench.hostility.usual import NAMES, ranked
from tests.bench.hostility.values import Rng, pick


def ranks(rng: Rng) -> Ask:
    """Ranks with features of any kind, excluded and repeated actions."""
    more = pick(
        rng,
        (
            {},
            {"excludedActions": ["a0", values.text(rng)]},
            {"deferActivation": True},
            {"eventId": f"event-{rng.integers(NAMES)}"},
        ),
    )
    return ranked(rng, pick(rng, (values.features, lambda r: values.tree(r, 3)))(rng), **more)


def slots(rng: Rng) -> Ask:
    """Ranks with slots, of which some are wrong."""
    wanted = [{"id": f"s{n}", "baselineAction": f"a{n}", "features": [values.features(rng)]} for n in range(2)]
    if rng.random() < 0.3:
        wanted[1] = {"id": values.text(rng), "baselineAction": "a0"}
    actions = [{"id": f"a{n}", "features": [{"n": n, "tags": [values.text(rng)]}]} for n in range(3)]
    return rank({"actions": actions, "slots": wanted}, "/personalizer/v1.1-preview.3/multislot/rank")


def rewards(rng: Rng) -> Ask:
    """Rewards and activations of events that are, are not, or are odd."""
    event = f"event-{rng.integers(NAMES)}"
    value = pick(rng, (1, 0, -1, 0.5, 1e308, "1", None, [1], values.beyond(rng)))
    return post(f"/personalizer/v1.0/events/{event}/{pick(rng, ('reward', 'activate'))}", {"value": value})


def policy_texts(rng: Rng) -> Ask:
    """Learning policies that are none."""
    text = pick(
        rng, ("--cb_explore_adf --sql 'x'", "--nonsense", "", "-q", "--epsilon 7", values.text(rng), "--cb_type \x00")
    )
    return Ask("PUT", "/personalizer/v1.0/configurations/policy", spelled({"name": "odd", "arguments": text}))
