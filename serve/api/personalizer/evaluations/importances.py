"""Feature importances: how much what is expected of an action changes where a feature says what it says elsewhere."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from data.schema import Decision, FeatureObjects, Features
from rl.artefacts.artefact import Artefact
from rl.encoders.visit import Visit
from rl.policy.arrays import FloatArray
from serve.api.personalizer.evaluations.contracts import FeatureScore

_MOST = 100
"""Features that are tried."""
_DECISIONS = 200

Path = tuple[str, ...]


def measure(artefact: Artefact, decisions: Sequence[Decision]) -> list[FeatureScore]:
    """Return how important features are, the most important first.

    A feature's values are dealt anew among the decisions; its score is the mean absolute change of what is expected of
    their actions, in units of the largest one.

    Args:
        artefact: what answers.
        decisions: that were logged lately.
    """
    described = [one for one in decisions if one.features is not None][-_DECISIONS:]
    if not described:
        return []
    plain = _expected(artefact, described)
    scores = list[tuple[float, Path]]()
    for path in _paths(described):
        order = np.random.default_rng(0).permutation(len(described)).tolist()
        dealt = [_with(one, path, described[other]) for one, other in zip(described, order, strict=True)]
        changes = [np.abs(a - b).mean() for a, b in zip(plain, _expected(artefact, dealt), strict=True)]
        scores.append((float(np.mean(changes)), path))
    largest = max((score for score, _ in scores), default=0.0) or 1.0
    ranked = sorted(scores, key=lambda one: (-one[0], one[1]))
    return [
        FeatureScore(namespace=".".join(path[:-1]), name=path[-1], score=round(score / largest, 6))
        for score, path in ranked
    ]


def _expected(artefact: Artefact, decisions: Sequence[Decision]) -> list[FloatArray]:
    """Return what is expected of the actions of each decision."""
    return [
        artefact.policy.expected(
            artefact.encoder.query([Visit(one.user_id, one.time, one.candidates, one.context, one.features)])
        )[0]
        for one in decisions
    ]


def _paths(decisions: Sequence[Decision]) -> list[Path]:
    """Return features of contexts and of actions, in the order in which they are met."""
    found = dict[Path, None]()
    for one in decisions:
        assert one.features is not None, "chosen so"
        parts = [("context", one.features.context), *(("action", of) for of in one.features.items)]
        for name, objects in parts:
            for part in objects:
                found |= dict.fromkeys((name, *path) for path in _leaves(part))
    return list(found)[:_MOST]


def _leaves(value: JsonValue) -> Iterator[Path]:
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from ((name, *path) for path in _leaves(inner))
        else:
            yield (name,)


def _with(decision: Decision, path: Path, other: Decision) -> Decision:
    """Return a decision with a feature as another has it; of each action, as the next one there has it."""
    features, given = decision.features, other.features
    assert features is not None, "chosen so"
    assert given is not None, "chosen so"
    if path[0] == "context":
        context = _replace(features.context, path[1:], _find(given.context, path[1:]))
        return decision.model_copy(update={"features": features.model_copy(update={"context": context})})
    values = [_find(objects, path[1:]) for objects in given.items] or [None]
    items = tuple(  # of the next action: where all decisions have the same ones, their own order would change nothing
        _replace(objects, path[1:], values[(at + 1) % len(values)]) for at, objects in enumerate(features.items)
    )
    return decision.model_copy(update={"features": Features(context=features.context, items=items)})


def _find(objects: FeatureObjects, path: Path) -> JsonValue:
    for part in objects:
        value: JsonValue = part
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _replace(objects: FeatureObjects, path: Path, value: JsonValue) -> FeatureObjects:
    return tuple(_put(part, path, value) for part in objects)


def _put(part: dict[str, Any], path: Path, value: JsonValue) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    if name not in part:
        return part
    if rest:
        inner = part[name]
        return {**part, name: _put(inner, rest, value)} if isinstance(inner, dict) else part
    left = {key: of for key, of in part.items() if key != name}
    return left if value is None else {**part, name: value}
