"""Where the plans of the v1 loop come from: the configured policies, and the registry's champion. No Ray."""

import logging

from data.settings import Settings
from data.store import Store
from serve.config import ServiceConfig
from serve.kept import keep
from serve.learner import FoldSpec
from serve.loops import Plan, erasures

log = logging.getLogger("ray.serve")


class Configured:
    """The policies that the configuration names, for each of its objectives."""

    def __init__(self, config: ServiceConfig, settings: Settings, store: Store) -> None:
        """Keep the policies that lie in the home now.

        Raises:
            ArtefactError: one of them is no policy that can be served.
        """
        self._config, self._store = config, store
        self._digests: dict[str, str] = {}
        for name in config.policies:
            artefact = keep(settings.home / "policies" / name, settings)
            if artefact.reward != config.reward:
                log.warning("%s was trained for %s and now learns from %s", name, artefact.reward, config.reward)
            self._digests[name] = artefact.digest

    def __call__(self) -> list[Plan]:
        """See `serve.loops.PlanSource`."""
        forgotten, config = erasures(self._store), self._config
        return [
            Plan(FoldSpec(objective=objective, reward=reward, learn_from=config.learn_from), self._digests, forgotten)
            for objective, reward in {"default": config.reward, **config.objectives}.items()
        ]
