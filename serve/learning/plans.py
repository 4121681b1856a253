"""The plans of the v1 loop, from the configured policies and the registry's champion."""

import logging
from collections.abc import Callable

from data.log.erasures import count_erasures
from data.log.errors import StoreError
from data.log.loops import begun_folds
from data.log.store import Store
from data.schema import LOOP_V1
from data.settings import Settings
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import load_shelved, shelve
from rl.downloads import fetch
from rl.online.fold import FoldSpec
from rl.policy.errors import PolicyError
from rl.promotions import last_failure
from rl.registry import MODEL, RegisteredPolicy, RegistryError, resolve_alias
from serve.abtests.policies import TestPolicies
from serve.config import CHAMPION, Champion, ServiceConfig
from serve.learning.plan import Plan

log = logging.getLogger("ray.serve")


class ConfiguredPlans:
    """A plan for each configured objective, with the policies that the configuration names."""

    def __init__(self, config: ServiceConfig, settings: Settings, store: Store) -> None:
        """Shelve the policies that are in the home, and fetch the champion; those that fail are tried again later.

        A policy that is not in this node's home, but was served from another node's, is taken from the shelf.
        """
        self._config, self._settings, self._store = config, settings, store
        self._digests: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._champion: RegistryChampion | None = None
        self._tests = TestPolicies(settings, store, config.champion.model if config.champion else MODEL)
        self._load_missing()

    def __call__(self) -> list[Plan]:
        """See `serve.learning.loops.PlanSource`."""
        self._load_missing()
        self._tests.refresh()
        forgotten, config = count_erasures(self._store), self._config
        digests = self._digests | ({CHAMPION: self._champion.digest()} if self._champion else {})
        forced = {CHAMPION: why} if self._champion and (why := self._champion.forced) else {}
        rolled_back = {CHAMPION: why} if self._champion and (why := self._champion.rolled_back) else {}
        plans = list[Plan]()
        for objective, reward in {"default": config.reward, **config.objectives}.items():
            policies = digests | self._tests.digests(objective)
            lessons = self._tests.lessons(objective, policies, config.learn_from)
            spec = FoldSpec(objective=objective, reward=reward, learn_from=config.learn_from, **lessons)
            missing = self._missing | self._tests.missing(objective)
            plans.append(Plan(spec, policies, forgotten, missing, forced, rolled_back))
        return plans

    def _load_missing(self) -> None:
        """Load the policies that are missing."""
        for name in self._config.policies:
            if name not in self._digests:
                self._try(name, self._shelve)
        if self._config.champion and self._champion is None:
            self._try(CHAMPION, self._fetch)

    def _try(self, name: str, get: Callable[[str], None]) -> None:
        try:
            get(name)
        except StoreError:
            raise
        except Exception as error:  # whatever it is: the other policies are served
            if self._missing.get(name) != str(error):
                log.error("policy %s cannot be served: %s", name, error)
            self._missing[name] = str(error)
        else:
            self._missing.pop(name, None)

    def _shelve(self, name: str) -> None:
        folder = self._settings.home / "policies" / name
        if not folder.exists() and (digest := _last_digest(self._store, name)):  # on another node than before
            artefact = load_shelved(digest, self._settings)
        else:
            artefact = shelve(folder, self._settings)
        if artefact.reward != self._config.reward:
            log.warning("%s was trained for %s and now learns from %s", name, artefact.reward, self._config.reward)
        self._digests[name] = artefact.digest

    def _fetch(self, _: str) -> None:
        assert self._config.champion is not None, "checked by the caller"
        self._champion = RegistryChampion(self._config.champion, self._settings, self._store)


class RegistryChampion:
    """The registry's champion, or the last one that could be fetched."""

    def __init__(self, config: Champion, settings: Settings, store: Store) -> None:
        """Fetch the champion, or take the one that was served last.

        Raises:
            ArtefactError: there is neither.
        """
        self._config, self._settings = config, settings
        self._seen: RegisteredPolicy | None = None
        self._digest = ""
        self._problem = "the registry has none"
        self.forced: str | None = None
        """Why it became the champion although the gate had said no; None: it did not so."""
        self.rolled_back: str | None = None
        """Which version was taken back by itself since the last promotion, and why; None: none was."""
        if not self.digest():
            self._digest = _last_digest(store, CHAMPION)
            if not self._digest:
                raise ArtefactError(
                    f"no champion of model {config.model!r} can be served: {self._problem}; register one with "
                    "python -m rl.registry register FOLDER --alias champion"
                )
            load_shelved(self._digest, settings)

    def digest(self) -> str:
        """Return the digest of the champion, on the shelf; of a new one, if there is one that can be fetched."""
        try:
            version = resolve_alias(self._settings, self._config.model, self._config.alias)
            if version is None or version == self._seen:
                return self._digest
            self.rolled_back = last_failure(self._settings, self._config.model, self._config.alias)
            self._seen = version  # fetched once: one that is bad now is bad the next time
            fetch(self._settings, version)
            load_shelved(version.digest, self._settings)
            self._digest, self.forced = version.digest, version.forced
        except (RegistryError, ArtefactError, PolicyError) as error:
            if str(error) != self._problem:
                log.error("the champion stays as it is: %s", error)
            self._problem = str(error)
            if isinstance(error, RegistryError):
                self._seen = None
        return self._digest


def _last_digest(store: Store, name: str) -> str:
    """Return the digest of the policy that was served under a name last, as the log has it; empty if none was."""
    for version in begun_folds(store, LOOP_V1, "default"):
        policies = (version.begins or {}).get("policies")
        if isinstance(policies, dict) and name in policies:
            return str(policies[name])
    return ""
