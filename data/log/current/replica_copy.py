"""A replica's copy of what tables of the log say, so that requests need not wait for the log."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class ReplicaCopy(Generic[T]):
    """What was read last: refreshed in threads, now and then and after a change; reading `current` never waits."""

    def __init__(self, read: Callable[[T], T], current: T) -> None:
        """Take what is known at first.

        Args:
            read: returns what holds now, given what is known; may raise StoreError.
            current: what is known before the first refresh.
        """
        self._read, self._lock = read, threading.Lock()
        self.current = current

    def refresh(self) -> None:
        """Read anew. Blocks; one refresh at a time, so that an older state never replaces a newer one.

        Raises:
            StoreError: it cannot be read; what is known goes on to count.
        """
        with self._lock:
            self.current = self._read(self.current)
