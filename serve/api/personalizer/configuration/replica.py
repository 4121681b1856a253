"""A replica's copy of the configuration: requests read it without waiting for the store."""

from data.log.current.replica_copy import ReplicaCopy
from data.log.current.settings_table import reading
from data.log.store import Store
from serve.api.personalizer.configuration.values import Configuration, read_configuration


def copy_configuration(store: Store) -> ReplicaCopy[Configuration]:
    """Return a copy of the configuration as it is now.

    Raises:
        StoreError: it cannot be read.
    """

    def read_changes(known: Configuration) -> Configuration:
        with reading(store) as settings:
            return known if settings.last_change() == known.seq else read_configuration(settings)

    copy = ReplicaCopy(read_changes, Configuration(seq=-1))
    copy.refresh()
    return copy
