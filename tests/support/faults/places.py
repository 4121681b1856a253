"""All faults, one after the other, and the places where they are done.

A rolling update of the code under load is walked in tests/cluster/test_cluster.py, by `ray up`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from tests.support.faults import cluster, machine, training
from tests.support.faults.fault import Fault

PLACES: Final[dict[str, Callable[[Path], AbstractContextManager[Any]]]] = {
    machine.POSTGRES: machine.postgres_machine,
    machine.SQLITE: machine.sqlite_machine,
    training.TRAINING: training.training_machine,
    cluster.CLUSTER: cluster.rocksdb_cluster,
    cluster.REDIS: cluster.redis_cluster,
}
"""What makes a place, given a folder for it."""
FAULTS: Final[tuple[Fault, ...]] = (*machine.FAULTS, *training.FAULTS, *cluster.FAULTS)
