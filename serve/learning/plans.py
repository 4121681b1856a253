"""Where the plans of the v1 loop come from: the configured policies, and the registry's champion."""

import logging
from collections.abc import Callable

from data.log.database import StoreError
from data.log.erasures import count_erasures
from data.log.loops import begun_folds
from data.log.store import Store
from data.schema import LOOP_V1
from data.settings import Settings
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import keep, load_kept
from rl.online.fold import FoldSpec
from rl.policy.errors import PolicyError
from rl.registry import (
    Found,
    RegistryError,
    champion,
    fetch,
)
from serve.config import CHAMPION, Champion, ServiceConfig
from serve.learning.loops import Plan

log = logging.getLogger("ray.serve")


class Configured:
    """The policies that the configuration names, for each of its objectives."""

    def __init__(self, config: ServiceConfig, settings: Settings, store: Store) -> None:
        """Keep the policies that lie in the home now, and fetch the champion; what cannot be had is tried again."""
        self._config, self._settings, self._store = config, settings, store
        self._digests: dict[str, str] = {}
        self._lacking: dict[str, str] = {}
        self._champion: Registered | None = None
        self._complete()

    def __call__(self) -> list[Plan]:
        """See `serve.learning.loops.PlanSource`."""
        self._complete()
        forgotten, config = count_erasures(self._store), self._config
        digests = self._digests | ({CHAMPION: self._champion.digest()} if self._champion else {})
        return [
            Plan(
                FoldSpec(objective=objective, reward=reward, learn_from=config.learn_from),
                digests,
                forgotten,
                dict(self._lacking),
            )
            for objective, reward in {"default": config.reward, **config.objectives}.items()
        ]

    def _complete(self) -> None:
        """Get what is lacking."""
        for name in self._config.policies:
            if name not in self._digests:
                self._try(name, self._keep)
        if self._config.champion and self._champion is None:
            self._try(CHAMPION, self._fetch)

    def _try(self, name: str, get: Callable[[str], None]) -> None:
        try:
            get(name)
        except StoreError:
            raise
        except Exception as error:  # whatever it is, the other policies are served
            if self._lacking.get(name) != str(error):
                log.error("policy %s cannot be served: %s", name, error)
            self._lacking[name] = str(error)
        else:
            self._lacking.pop(name, None)

    def _keep(self, name: str) -> None:
        artefact = keep(self._settings.home / "policies" / name, self._settings)
        if artefact.reward != self._config.reward:
            log.warning("%s was trained for %s and now learns from %s", name, artefact.reward, self._config.reward)
        self._digests[name] = artefact.digest

    def _fetch(self, _: str) -> None:
        assert self._config.champion is not None, "who calls has looked"
        self._champion = Registered(self._config.champion, self._settings, self._store)


class Registered:
    """The registry's champion, or the last one that could be had."""

    def __init__(self, config: Champion, settings: Settings, store: Store) -> None:
        """Fetch the champion, or take the one that was served last.

        Raises:
            ArtefactError: there is neither.
        """
        self._config, self._settings = config, settings
        self._seen: Found | None = None
        self._digest = ""
        self._problem = "the registry has none"
        if not self.digest():
            self._digest = _last(store)
            if not self._digest:
                raise ArtefactError(
                    f"no champion of model {config.model!r} can be served: {self._problem}; register one with "
                    "python -m rl.registry register FOLDER --alias champion"
                )
            load_kept(self._digest, settings)

    def digest(self) -> str:
        """Return the digest of the champion, which is kept; if there is a new one that can be had, it is that one's."""
        try:
            found = champion(self._settings, self._config.model, self._config.alias)
            if found is None or found == self._seen:
                return self._digest
            self._seen = found  # asked for once: one that is bad now is bad the next time
            fetch(self._settings, found)
            load_kept(found.digest, self._settings)
            self._digest = found.digest
        except (RegistryError, ArtefactError, PolicyError) as error:
            if str(error) != self._problem:
                log.error("the champion stays as it is: %s", error)
            self._problem = str(error)
            if isinstance(error, RegistryError):
                self._seen = None
        return self._digest


def _last(store: Store) -> str:
    """Return the digest of the champion that was served last, as the log has it; empty if none was."""
    for version in begun_folds(store, LOOP_V1, "default"):
        policies = (version.begins or {}).get("policies")
        if isinstance(policies, dict) and CHAMPION in policies:
            return str(policies[CHAMPION])
    return ""
