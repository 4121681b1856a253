"""The metrics of a process, by the configuration."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from data.log.store import Store
from data.nodes.node import load_nodes
from data.schema import ACTIVATE
from serve.config import ServiceConfig
from serve.contracts.errors import ERRORS
from serve.metrics.learner import LearnerMetrics
from serve.metrics.meter import Meter
from serve.metrics.replica import Names, ReplicaMetrics

LEARNER: Final = "learner"
"""What the learner's process is called, in the place of a replica's id."""


def replica_metrics(config: ServiceConfig, replica: str) -> ReplicaMetrics | None:
    """Return what a replica counts with; None: the configuration says not to.

    Raises:
        DataError: a node's declaration cannot be read.
    """
    if not config.metrics:
        return None
    return ReplicaMetrics(Meter(replica), _names(config), load_nodes(config.nodes), ERRORS)


def learner_metrics(config: ServiceConfig, store: Store) -> LearnerMetrics | None:
    """Return what the learner counts with; None: the configuration says not to.

    Raises:
        StoreError: the log does not answer.
        DataError: a node's declaration cannot be read.
    """
    if not config.metrics:
        return None
    settings = config.settings
    folders = {"home": settings.home}
    if (archive := Path(settings.archive_uri)).is_absolute():  # else it is an object store, which has no disk
        folders["archive"] = archive
    nodes = load_nodes(config.nodes)
    return LearnerMetrics(Meter(LEARNER), store, _names(config), nodes, folders, _archivable_after(config))


def _names(config: ServiceConfig) -> Names:
    kinds = {kind for spec in (config.reward, *config.objectives.values()) for kind in spec.weights}
    return Names(config.output_nodes, kinds | {ACTIVATE})


def _archivable_after(config: ServiceConfig) -> timedelta | None:
    """Return how long after its end a day can be archived; None: the service archives none."""
    if config.archive is None:
        return None
    wait_s = max(spec.wait_s for spec in (config.reward, *config.objectives.values()))
    return timedelta(seconds=min(wait_s, 1e9), days=config.archive.keep_days)
