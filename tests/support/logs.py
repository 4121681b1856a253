"""A log by hand, for tests of what follows it: decisions without a recommender, feedback, a clock that can jump."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data.log.store import Store
from data.schema import (
    Decision,
    Features,
    Feedback,
)
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.policies import CrossedConfig, build
from tests.support.clocks import Clock

ITEMS = ("20000", "20001", "20002", "20003", "20004")
"""Those of `tests.support.shops.small_market`, some of them."""


@dataclass
class Written:
    """A log that tests write, one decision of two items at a time."""

    store: Store
    clock: Clock
    made: list[Decision] = field(default_factory=list)

    def decide(self, policy: str = "described", **fields: Any) -> Decision:
        number = len(self.made)
        rng = np.random.default_rng(number)
        slate = tuple(rng.permutation(ITEMS)[:2].tolist())
        features = Features(
            context=({"where": f"page{number % 3}", "hour": number % 5},),
            items=tuple(({"kind": f"kind{int(item) % 2}", "price": float(item[-1])},) for item in slate),
        )
        known: dict[str, Any] = {
            "decision_id": f"d{number}",
            "time": self.clock(),
            "user_id": f"u{number % 4}",
            "candidates": slate,
            "slate": slate,
            "propensities": (0.5, 0.5),
            "scores": (0.0, 0.0),
            "policy": policy,
            "policy_version": "0.0.0",
            "features": features,
        }
        decision = Decision(**known | fields)
        self.store.insert([decision])
        self.made.append(decision)
        return decision

    def report(self, decision: Decision, kind: str = "click", slot: int = 0, value: float = 1.0) -> None:
        number = sum(len(found) for found in self.store.feedback_of([decision.decision_id]).values())
        report = Feedback(
            feedback_id=f"{decision.decision_id}/{number}",
            decision_id=decision.decision_id,
            item_id=decision.slate[slot],
            kind=kind,
            value=value,
        )
        self.store.insert([report])

    def damage(self, statement: str, *values: object) -> None:
        """Change rows as another hand would."""
        with self.store.writing() as connection:
            assert connection.exec_driver_sql(statement, values).rowcount == 1


def described(name: str = "described", history: int = 0) -> Artefact:
    """Return a policy of features of any kind that has learned nothing."""
    config = CrossedConfig(epsilon=0.0)
    return Artefact(
        name=name,
        config=config,
        policy=build(config, 0, 1, np.zeros(1)),
        encoder=FeaturesEncoder(()),
        digest="0" * 8,
        history=history,
    )
