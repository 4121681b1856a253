"""The bandit pipeline that this product replaces, as far as its rewards go: they are those of other users.

Its Logger draws new users, lets them rate what was shown to the old ones, and joins these ratings to the old contexts,
row by row.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.attribution.join import Outcome, attribute
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from rl.encoders.visit import Visit
from rl.online.observe import observe
from rl.policies import LinearThompsonConfig
from rl.policy.arrays import IntArray
from rl.policy.explanation.parts import Names
from rl.policy.explorers import Votes
from rl.policy.queries import Query
from rl.simulators.bandits.ratings import Ratings
from tests.support.clocks import NOON

SPEC = RewardSpec(weights={"rating": 1.0})
POLICY = LinearThompsonConfig(
    models="per_item", noise_sd=0.3, regularisation=0.1, samples=20, explorer=Votes(floor=0.0)
)

Join: TypeAlias = Callable[[Sequence[Decision], Sequence[Feedback]], list[Outcome]]
"""From decisions and what was reported to what is learned."""


@dataclass(frozen=True)
class ContextEncoder:
    """Reads a user's factors from the context."""

    n_features: int
    items: tuple[str, ...]
    n_states: int = 1
    version: str = "factors"

    @property
    def popularity(self) -> NDArray[np.float64]:
        return np.zeros(len(self.items) + 1)

    def item_positions(self, items: Sequence[str]) -> IntArray:
        return np.array([self.items.index(item) + 1 for item in items], dtype=np.int64)

    def names(self, visit: Visit) -> Names:
        return Names(tuple(visit.context))

    def query(self, visits: Sequence[Visit]) -> Query:
        features: Any = np.array([[[*visit.context.values()]] for visit in visits], dtype=np.float64)
        items = np.stack([self.item_positions(visit.candidates) for visit in visits])
        return Query(features, np.zeros(len(visits), np.int64), items, np.ones(items.shape, np.bool_))


def join_by_row(decisions: Sequence[Decision], reports: Sequence[Feedback]) -> list[Outcome]:
    """Join as the replaced pipeline does: by the place in the batch, whoever has rated."""
    return [
        Outcome(decision, (report.value,), report.value, True, True)
        for decision, report in zip(decisions, reports, strict=True)
    ]


def join_by_decision(decisions: Sequence[Decision], reports: Sequence[Feedback]) -> list[Outcome]:
    """Join as this product does."""
    about: dict[str, list[Feedback]] = {}
    for report in reports:
        about.setdefault(report.decision_id, []).append(report)
    now = decisions[-1].time + timedelta(days=1)
    return [attribute(decision, about.get(decision.decision_id, ()), SPEC, now) for decision in decisions]


class Worth(NamedTuple):
    """Of one interaction, to the user that it was for."""

    earned: float
    best: float
    """Of the movie that they like most."""


def play(
    join: Join,
    *,
    of_others: bool,
    interactions: int,
    seed: int,
    batch: int = 20,
    ratings: pd.DataFrame | None = None,
    asked_until: int | None = None,
) -> Iterator[Worth]:
    """Recommend movies and learn; yields what each interaction is worth.

    Args:
        join: from decisions and reports to outcomes.
        of_others: the Logger draws new users who rate; else those rate who were recommended something.
        interactions: how many.
        seed: of users and policy.
        batch: interactions between two updates.
        ratings: of MovieLens; None: generated ones.
        asked_until: what is learned after so many interactions goes to new endpoints, which nobody asks; None: the one
            that is asked learns on.
    """
    env, logger = Ratings(batch, ratings=ratings), Ratings(batch, ratings=ratings)
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    logger.reset(seed=seed + 1_000)
    rank = observation["features"].shape[2]
    encoder = ContextEncoder(rank, tuple(str(item) for item in range(1, observation["items"].shape[1] + 1)))
    policy = POLICY.build(rank, 1, encoder.popularity)
    for number in range(0, interactions, batch):
        features, query = observation["features"][:, 0], Query.of(observation)
        slates = policy.decide(query, 1, rng)
        actions = slates.positions[:, 0]
        best = env.expected_rewards().max(axis=1)
        observation, own, *_ = env.step(actions)
        _, others, *_ = logger.step(actions)
        decisions = [
            Decision(
                decision_id=f"{seed}/{number + row}",
                time=NOON,
                user_id=f"user {number + row}",
                context={f"f{at}": float(value) for at, value in enumerate(features[row])},
                candidates=encoder.items,
                slate=(encoder.items[action],),
                propensities=(float(slates.propensities[row, 0]),),
                scores=(0.0,),
                policy="linear_thompson",
                policy_version="0.0.0",
            )
            for row, action in enumerate(actions.tolist())
        ]
        reports = [
            rate(d, rating, of_others) for d, rating in zip(decisions, others if of_others else own, strict=True)
        ]
        if asked_until is None or number < asked_until:
            policy.update(observe(join(decisions, reports), encoder))
        yield from map(Worth, own.tolist(), best.tolist())


def rate(shown: Decision, rating: float, by_another: bool) -> Feedback:
    """Return the report of a rating of what a decision has shown; another user's is about a visit of theirs."""
    name = f"new user's visit {shown.decision_id}" if by_another else shown.decision_id
    return Feedback(
        feedback_id=name, decision_id=name, item_id=shown.slate[0], kind="rating", value=rating, received_at=NOON
    )
