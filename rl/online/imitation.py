"""What an apprentice learns: which candidate another policy shows first, whatever that earns.

Of each decision the candidate that was shown first is worth 1 and every other one 0. So what the apprentice expects of
a candidate is how likely it is to be shown, and its best candidate is the one most likely. Of many others some stand
for all, drawn by a hash of the decision's id, so that a fold that is repeated learns the same.

The apprentice mode of the Personalizer API is another thing: there the client's own choice is shown, and what it earns
is learned.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b

import numpy as np

from data.schema import Decision
from rl.encoders.base import VisitEncoder
from rl.encoders.visit import Visit
from rl.online.observe import Learnable
from rl.policy.queries import WEIGHTED, Impressions, Slates

_OTHERS = 8
"""Candidates that stand for all that were not shown."""


def imitate(outcomes: Sequence[Learnable], encoder: VisitEncoder) -> Impressions:
    """Observe what was shown first, and what was not, of some decisions (at least one)."""
    return Impressions.concatenate([_observe(outcome.decision, encoder) for outcome, _ in outcomes])


def _observe(decision: Decision, encoder: VisitEncoder) -> Impressions:
    shown = decision.candidates.index(decision.slate[0])
    others = [place for place in range(len(decision.candidates)) if place != shown]
    n = len(others)
    if n > _OTHERS:
        seed = int.from_bytes(blake2b(decision.decision_id.encode(), digest_size=8).digest())
        others = sorted(np.random.default_rng(seed).choice(n, _OTHERS, replace=False).tolist())
        others = [place if place < shown else place + 1 for place in others]
    places = [shown, *others]
    features = decision.features or None
    if features and features.items:
        features = features.model_copy(update={"items": tuple(features.items[place] for place in places)})
    candidates = tuple(decision.candidates[place] for place in places)
    visit = Visit(decision.user_id, decision.time, candidates, decision.context, features)
    positions, worth = np.arange(len(places))[None], np.zeros((1, len(places)))
    worth[0, 0] = 1.0
    observed = Impressions.of_slates(encoder.query([visit]), Slates(positions, np.ones_like(worth), worth), worth)
    weights = np.full(len(places), n / max(len(others), 1))
    weights[0] = 1.0
    weights *= decision.weight
    return replace(observed, **{name: getattr(observed, name) * weights for name in WEIGHTED})
