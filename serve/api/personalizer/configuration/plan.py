"""Where the plan of the Personalizer loop comes from: its settings in the store."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from data.log.current.replica_copy import ReplicaCopy
from data.log.erasures import count_erasures
from data.log.store import Store
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import load_shelved, shelve_new
from rl.online.fold import FoldSpec
from rl.policies import build
from rl.policy.errors import PolicyError
from serve.api.personalizer.configuration.policy import make_untrained
from serve.api.personalizer.configuration.replica import read_changes
from serve.api.personalizer.configuration.values import LOOP, Configuration
from serve.learning.plan import Plan

log = logging.getLogger("raycommend.personalizer")

Untrained: TypeAlias = Callable[[Configuration], Artefact]
"""Makes the policy that a configuration asks for, without anything learned."""


class PersonalizerSource:
    """One policy, as the settings describe it; see `serve.learning.loops.PlanSource`."""

    def __init__(self, settings: Settings, store: Store, make: Untrained = make_untrained) -> None:
        self._settings, self._store, self._make = settings, store, make
        self._configuration = ReplicaCopy(partial(read_changes, store), Configuration(seq=-1))
        self._made: tuple[Configuration, str] | None = None

    def __call__(self) -> list[Plan]:
        """Return the plan that holds now.

        Raises:
            StoreError: the settings cannot be read.
        """
        self._configuration.refresh()
        now = self._configuration.current
        spec = FoldSpec(loop=LOOP, reward=now.service.reward_spec, learn_from="all")
        return [Plan(spec, {LOOP: self._digest(now)}, count_erasures(self._store))]

    def _digest(self, now: Configuration) -> str:
        """Return which kept artefact the configuration begins with."""
        if self._made is None or self._made[0].answering != now.answering:
            self._made = now, shelve_new(self._begin(now), self._settings).digest
        return self._made[1]

    def _begin(self, now: Configuration) -> Artefact:
        made = replace(self._make(now), learned_until=now.origin.reset_at)
        if now.origin.imported is None:
            return made
        try:
            imported = load_shelved(now.origin.imported, self._settings)
        except (ArtefactError, PolicyError) as error:
            log.error("the imported model cannot be had, going on with what the log teaches: %s", error)
            return made
        if not same_model(imported, made):  # another policy was set since: it learns from the log what it can
            return made
        policy = build(made.config, made.encoder.n_features, made.encoder.n_states, made.encoder.popularity)
        policy.load_state_dict(imported.policy.state_dict())
        return replace(made, policy=policy, learned_until=imported.learned_until, trained_on=imported.trained_on)


def same_model(one: Artefact, other: Artefact) -> bool:
    """Return whether two policies learn alike, however much they explore."""
    same = {"epsilon": 0.0}
    return (
        one.config.model_copy(update=same) == other.config.model_copy(update=same)
        and one.encoder.version == other.encoder.version
    )
