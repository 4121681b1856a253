"""Where the plans of the v1 loop come from: the configured policies, and the registry's champion. No Ray."""

import logging

from data.settings import Settings
from data.store import Store
from rl.artefact import ArtefactError
from rl.policy import PolicyError
from rl.registry import Found, RegistryError, champion, fetch
from serve.config import CHAMPION, Champion, ServiceConfig
from serve.fold import FoldSpec
from serve.kept import keep, load_kept
from serve.loops import Plan, erasures

log = logging.getLogger("ray.serve")


class Configured:
    """The policies that the configuration names, for each of its objectives."""

    def __init__(self, config: ServiceConfig, settings: Settings, store: Store) -> None:
        """Keep the policies that lie in the home now, and fetch the champion.

        Raises:
            ArtefactError: one of them is no policy that can be served; of the champion: neither is the last that was.
        """
        self._config, self._store = config, store
        self._digests: dict[str, str] = {}
        for name in config.policies:
            artefact = keep(settings.home / "policies" / name, settings)
            if artefact.reward != config.reward:
                log.warning("%s was trained for %s and now learns from %s", name, artefact.reward, config.reward)
            self._digests[name] = artefact.digest
        self._champion = Registered(config.champion, settings, store) if config.champion else None

    def __call__(self) -> list[Plan]:
        """See `serve.loops.PlanSource`."""
        forgotten, config = erasures(self._store), self._config
        digests = self._digests | ({CHAMPION: self._champion.digest()} if self._champion else {})
        return [
            Plan(FoldSpec(objective=objective, reward=reward, learn_from=config.learn_from), digests, forgotten)
            for objective, reward in {"default": config.reward, **config.objectives}.items()
        ]


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
    for version in store.begun("v1", "default"):
        policies = (version.begins or {}).get("policies")
        if isinstance(policies, dict) and CHAMPION in policies:
            return str(policies[CHAMPION])
    return ""
