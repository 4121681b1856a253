"""A shop whose log a gate can be tried on: four drinks, four pages, and on each page another drink that sells best."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import LOOP_V1, Decision, Features, Feedback
from rl.artefacts.artefact import Artefact, save
from rl.encoders.catalogue import CatalogueEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.policies import CrossedConfig, PolicyConfig, PopularityConfig, RandomConfig, build
from rl.policies.baselines import Popularity
from tests.support.clocks import Clock

DRINKS = ("cola", "juice", "tea", "water")
SOLD, UNSOLD = 0.6, 0.2
"""How often the right drink of a page sells, and another."""
REWARD = RewardSpec(wait_s=60)
_AT_ONCE = 100


def by_chance(folder: Path, name: str = "chance") -> Artefact:
    """Save a policy that shows any drink: it sells .3 in the mean."""
    return _saved(folder, name, RandomConfig(), CatalogueEncoder(DRINKS))


def learner(folder: Path, name: str = "learner", epsilon: float = 0.1) -> Artefact:
    """Save a policy that learns in service which drink a page sells: in the end .6 less what it explores."""
    return _saved(folder, name, CrossedConfig(epsilon=epsilon), FeaturesEncoder(()))


def always(folder: Path, drink: str) -> Artefact:
    """Save a policy that shows one drink, under its name."""
    policy = Popularity(np.array([0.0, *(one == drink for one in DRINKS)], dtype=np.float64))
    encoder, config = CatalogueEncoder(DRINKS), PopularityConfig()
    return save(Artefact(name=drink, config=config, policy=policy, encoder=encoder, reward=REWARD), folder / drink)


def _saved(folder: Path, name: str, config: PolicyConfig, encoder: CatalogueEncoder | FeaturesEncoder) -> Artefact:
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    return save(Artefact(name=name, config=config, policy=policy, encoder=encoder, reward=REWARD), folder / name)


def log_by_chance(
    store: Store,
    clock: Clock,
    digest: str,
    n: int,
    seed: int = 0,
    sold: Callable[[int, int], float] = lambda page, drink: SOLD if page == drink else UNSOLD,
    slots: int = 1,
    loop: str = LOOP_V1,
    kind: str = "click",
    every_s: float = 0.1,
) -> None:
    """Log n decisions of who shows any drink, and what was sold of them, and let the windows close."""
    rng, written = np.random.default_rng(seed), 0
    while written < n:
        decisions, reports = list[Decision](), list[Feedback]()
        for number in range(written, min(written + _AT_ONCE, n)):
            page, shown = int(rng.integers(4)), rng.permutation(4)[:slots].tolist()
            decision = Decision(
                decision_id=f"{loop}-d{seed}-{number}",
                time=clock(),
                loop=loop,
                user_id=f"u{number % 50}",
                context={"page": f"page{page}"},
                candidates=DRINKS,
                slate=tuple(DRINKS[drink] for drink in shown),
                propensities=tuple(1 / (4 - slot) for slot in range(slots)),
                scores=(0.0,) * slots,
                policy="champion",
                policy_version=f"{digest}.fold.0",
                features=Features(context=({"page": f"page{page}"},), items=tuple(({"drink": one},) for one in DRINKS)),
            )
            decisions.append(decision)
            for drink in shown:
                if rng.random() < sold(page, drink):
                    reports.append(
                        Feedback(
                            feedback_id=f"{decision.decision_id}/{drink}",
                            decision_id=decision.decision_id,
                            loop=loop,
                            item_id=DRINKS[drink],
                            kind=kind,
                        )
                    )
            clock.advance(every_s)
        store.insert(decisions)
        store.insert(reports)
        written += len(decisions)
    clock.advance(1_000)
