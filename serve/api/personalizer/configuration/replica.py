"""A replica's copy of the configuration: requests read it without waiting for the store."""

from functools import partial

from data.log.current.replica_copy import ReplicaCopy
from data.log.current.settings_table import last_change, reading
from data.log.store import Store
from serve.api.personalizer.configuration.values import Configuration, read_configuration


def copy_configuration(store: Store) -> ReplicaCopy[Configuration]:
    """Return a copy of the configuration as it is now.

    Raises:
        StoreError: it cannot be read.
    """
    copy = ReplicaCopy(partial(read_changes, store), Configuration(seq=-1))
    copy.refresh()
    return copy


def read_changes(store: Store, known: Configuration) -> Configuration:
    """Return the configuration as it is now, given the last one that was read.

    Raises:
        StoreError: it cannot be read.
    """
    if last_change(store) == known.seq:
        return known
    with reading(store) as settings:
        return read_configuration(settings)
