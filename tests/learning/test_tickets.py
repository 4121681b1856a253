"""Learning support tickets: title, body and tags in, priority and department out; and networks broken on purpose.

A word of the department stands in the title or in the body, never in both, so both must be read. The priority is .1,
plus .4 for an urgent word in the title, plus .2 for tag "vip" and .3 for tag "outage"; a little noise is added.
"""

import tomllib
from functools import cache
from typing import Any

import numpy as np
import pytest

from rl.networks import (
    Score,
    Training,
    build,
    encode_inputs,
    encode_targets,
    evaluate,
    fit,
    parse,
)

TICKETS = """
[embeddings]
words = { values = 1000, width = 16 }    # shared by title and body
tags = { values = ["vip", "outage", "web", "phone"], width = 8 }

[inputs]
title = { kind = "text", embedding = "words", length = 8 }
body = { kind = "text", embedding = "words", length = 24 }
tags = { kind = "tags", embedding = "tags", length = 4 }

[nodes]
ticket = { kind = "concatenate", inputs = ["title", "body", "tags"] }
hidden = { kind = "dense", input = "ticket", width = 32 }
deep = { kind = "residual", input = "hidden", hidden = 32, dropout = 0.1 }

[outputs]
priority = { kind = "regression", input = "deep", loss = "mse", weight = 5.0 }
department = { kind = "class", input = "deep", classes = ["billing", "shipping", "support", "sales"] }
"""
DESCRIPTION = parse(tomllib.loads(TICKETS))
WORDS = {
    "billing": ["invoice", "refund", "charge", "payment", "receipt", "tax"],
    "shipping": ["parcel", "courier", "address", "customs", "delivery", "tracking"],
    "support": ["error", "crash", "login", "screen", "update", "password"],
    "sales": ["quote", "discount", "licence", "upgrade", "demo", "contract"],
}
URGENT = ["urgent", "immediately", "asap"]
FILLER = [
    f"{a}{b}" for a in ("the", "my", "our", "some", "any") for b in ("thing", "case", "day", "team", "note", "way")
]

three_seeds = pytest.mark.parametrize("seed", range(3))


def tickets(n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    records = []
    for _ in range(n):
        department = str(rng.choice(sorted(WORDS)))
        title, body = list(rng.choice(FILLER, 4)), list(rng.choice(FILLER, 15))
        told = title if rng.random() < 0.5 else body
        told[rng.integers(len(told))] = rng.choice(WORDS[department])
        urgent = rng.random() < 0.4
        title += [rng.choice(URGENT)] * urgent
        tags = [tag for tag in ("vip", "outage", "web", "phone") if rng.random() < 0.4]
        priority = 0.1 + 0.4 * urgent + 0.2 * ("vip" in tags) + 0.3 * ("outage" in tags) + rng.normal(0, 0.01)
        records.append(
            {
                "title": " ".join(title).capitalize() + "!",
                "body": ", ".join(body),
                "tags": tags,
                "priority": float(priority),
                "department": department,
            }
        )
    return records


@cache
def scores(seed: int, broken: str = "") -> dict[str, Score]:
    """Train on 2,000 tickets and judge by 1,000 others."""
    rng = np.random.default_rng(seed)
    train, test = tickets(2000, rng), tickets(1000, rng)
    if broken == "labels":
        order = rng.permutation(len(train))
        train = [
            old | {k: train[i][k] for k in ("priority", "department")} for old, i in zip(train, order, strict=True)
        ]
    elif broken:
        train, test = ([record | {name: None for name in broken.split()} for record in part] for part in (train, test))
    network = build(DESCRIPTION, seed)
    fit(
        network,
        encode_inputs(DESCRIPTION, train),
        encode_targets(DESCRIPTION, train),
        Training(epochs=12, batch_size=50, learning_rate=5e-3, seed=seed),
    )
    return evaluate(network, encode_inputs(DESCRIPTION, test), encode_targets(DESCRIPTION, test))


def knows_departments(score: Score) -> bool:
    """Four are equally frequent: guessing gives .25."""
    assert score.accuracy is not None
    return score.accuracy > 0.97


def knows_priorities(score: Score) -> bool:
    """Always saying the mean gives an error of about .23."""
    assert score.absolute_error is not None
    return score.absolute_error < 0.05


@pytest.mark.slow
@three_seeds
def test_unseen_tickets_are_told_by_title_body_and_tags(seed: int) -> None:
    of = scores(seed)
    assert knows_departments(of["department"]), of
    assert knows_priorities(of["priority"]), of


@pytest.mark.slow
@three_seeds
def test_shuffled_answers_teach_nothing(seed: int) -> None:
    of = scores(seed, "labels")
    accuracy, error = of["department"].accuracy, of["priority"].absolute_error
    assert accuracy is not None
    assert error is not None
    assert 0.2 < accuracy < 0.3
    assert error > 0.2


def test_without_text_departments_are_guessed() -> None:
    of = scores(0, "title body")
    assert of["department"].accuracy is not None
    assert 0.2 < of["department"].accuracy < 0.3
    assert not knows_priorities(of["priority"])


def test_without_titles_half_of_the_departments_are_lost_and_all_urgency() -> None:
    of = scores(0, "title")
    assert of["department"].accuracy is not None
    assert 0.55 < of["department"].accuracy < 0.7  # .5 told by the body, a fourth of the others guessed
    assert not knows_priorities(of["priority"])


@pytest.mark.slow
def test_without_tags_only_priorities_are_lost() -> None:
    of = scores(0, "tags")
    assert knows_departments(of["department"])
    assert not knows_priorities(of["priority"])
