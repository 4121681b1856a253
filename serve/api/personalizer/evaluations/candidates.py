"""The policies that an evaluation compares: what answers, the caller's own choice, chance, and learning settings."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.log.current.settings_table import reading
from data.log.store import Store
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.shelf import load_shelved
from rl.encoders.json_features import FeaturesEncoder
from rl.policies import RandomConfig, build
from rl.policies.baselines import Random
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import Query
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.api.personalizer.configuration.policy import DEFAULT_POLICY, make_untrained, read_exploration
from serve.api.personalizer.configuration.values import LOOP, Configuration, PolicySettings, read_configuration
from serve.api.personalizer.evaluations.contracts import EvaluationContract, Source

TRIED = (
    "--cb_explore_adf --epsilon 0.1 -q ::",
    "--cb_explore_adf --epsilon 0.05 -q ::",
    "--cb_explore_adf --bag 4 --epsilon 0.05 -q ::",
    "--cb_explore_adf --bag 10 --epsilon 0.02 -q ::",
    "--cb_explore_adf --squarecb --gamma_scale 10 -q ::",
    "--cb_explore_adf --epsilon 0.1",
)
"""Learning settings that are tried where better ones are asked for."""


@dataclass(frozen=True)
class Candidate:
    """A policy that is compared."""

    name: str
    arguments: str
    source: Source
    artefact: Artefact


class _First(Random):
    """Always the first action, which is the caller's own choice."""

    def __init__(self) -> None:
        self.explorer = EpsilonGreedy(epsilon=0.0)

    def expected(self, query: Query) -> FloatArray:
        """Return 1 for the first, [B, A]."""
        first: NDArray[np.float64] = np.zeros(query.mask.shape)
        first[:, 0] = 1.0
        return first


def online(store: Store, settings: Settings) -> tuple[Candidate, Configuration]:
    """Return what answers now, and how the service is configured.

    Raises:
        StoreError: the settings cannot be read.
        ArtefactError: it cannot be had.
    """
    with reading(store) as table:
        now = read_configuration(table)
    (plan,) = PersonalizerSource(settings, store)()
    wanted = now.policy or DEFAULT_POLICY
    artefact = load_shelved(plan.policies[LOOP], settings)
    return Candidate("Online", wanted.arguments, "Online", artefact), now


def list_candidates(asked: EvaluationContract, now: Configuration) -> list[Candidate]:
    """Return what is compared with what answers.

    Raises:
        Refused: learning settings cannot be followed.
    """
    first = _simple("Baseline")
    found = [
        Candidate("Baseline", "", "Baseline", replace(first, policy=_First())),
        Candidate("Random", "", "Random", _simple("Random")),
    ]
    found += [Candidate(one.name, one.arguments, "Custom", learning(one, now)) for one in asked.policies]
    if asked.optimize:
        tried = [PolicySettings(name=f"Optimized{n}", arguments=text) for n, text in enumerate(TRIED, start=1)]
        found += [
            Candidate(one.name, one.arguments, "OfflineExperimentation", learning(one, now))
            for one in tried
            if now.policy is None or one.arguments != now.policy.arguments
        ]
    return found


def learning(given: PolicySettings, now: Configuration) -> Artefact:
    """Return the policy that learning settings ask for, without anything learned.

    Raises:
        Refused: they cannot be followed.
    """
    explored = read_exploration(given)
    service = now.service if explored is None else now.service.model_copy(update={"exploration_percentage": explored})
    return replace(make_untrained(replace(now, policy=given, service=service)), name=given.name)


def _simple(name: str) -> Artefact:
    encoder, config = FeaturesEncoder(()), RandomConfig()
    return Artefact(name=name, config=config, policy=build(config, 0, 1, encoder.popularity), encoder=encoder)
