"""A replica's copy of the configuration: requests read it without waiting for the store."""

import threading

from data.log.settings_table import reading
from data.log.store import Store
from serve.api.personalizer.configuration.values import Configuration, read


class Memory:
    """What counts, as of the last `refresh` or change in this replica. May be used by several threads."""

    def __init__(self, store: Store) -> None:
        """Read the configuration.

        Raises:
            StoreError: it cannot be read.
        """
        self._store, self._lock = store, threading.Lock()
        self.current = Configuration(seq=-1)
        """Only ever replaced as a whole."""
        self.refresh()

    def refresh(self) -> None:
        """Read what has changed since. Blocks.

        Raises:
            StoreError: it cannot be read; what is known goes on to count.
        """
        with reading(self._store) as settings:
            if settings.last_change() == self.current.seq:
                return
            found = read(settings)
        self.take(found)

    def take(self, found: Configuration) -> None:
        """Take over a configuration that was read, unless it is older than the one that is known."""
        with self._lock:
            if found.seq > self.current.seq:
                self.current = found
