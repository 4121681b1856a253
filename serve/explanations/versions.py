"""The states of versions that answer no more, made again from the log: one at a time, in bounded time.

What has been made is kept for a minute, so that who asks again goes on from there, and asks for the decisions of one
version are quick. It is not kept longer, and not once a user was forgotten: it has learned from them.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from data.errors import RecommenderError
from data.log.erasures import count_erasures
from data.log.loops import fold_steps
from data.log.store import Store
from data.log.unreadable import describe_error
from data.settings import Settings
from rl.online.observe import TRANSIENT
from rl.online.snapshots import Snapshots
from rl.provenance.replay import Replay, Sources, begin_replay, find_beginning
from serve.audit.replay import recommender_of
from serve.contracts.errors import ERRORS, Refused
from serve.decisions.recommender import Recommender

KEPT_S = 60.0
"""How long what was made again is kept after it was asked for."""


@dataclass(frozen=True)
class _Making:
    """A fold that is being made again."""

    fold_id: str
    replay: Replay
    recommender: Recommender
    erasures: int
    """Of the log when it began."""


class Versions:
    """Makes versions again; its methods block, and may be called from any thread."""

    def __init__(self, store: Store, settings: Settings, limit_s: float) -> None:
        self._store, self._settings, self._limit_s = store, settings, limit_s
        self._lock = threading.Lock()
        self._making: _Making | None = None
        self._asked = 0.0

    @contextmanager
    def at(self, fold_id: str, number: int) -> Iterator[Recommender]:
        """Yield the recommender as it was after a step of a fold; nobody else has it meanwhile.

        Raises:
            Refused: not_explainable, it cannot be made again; making_again, not within the time.
            StoreError: the log does not answer.
        """
        deadline = monotonic() + self._limit_s
        if not self._lock.acquire(timeout=self._limit_s):
            raise ERRORS.refuse("making_again", "another version is being made again; ask again")
        try:
            self._asked = monotonic()
            yield self._reach(fold_id, number, deadline)
        finally:
            self._asked = monotonic()
            self._lock.release()

    def forget(self) -> None:
        """Let go of what nobody has asked for lately."""
        if self._lock.acquire(blocking=False):
            if monotonic() - self._asked >= KEPT_S:
                self._making = None
            self._lock.release()

    def _reach(self, fold_id: str, number: int, deadline: float) -> Recommender:
        try:
            making = self._begin(fold_id, number)
            for step in fold_steps(self._store, fold_id):
                if not making.replay.learner.number < step.number <= number:
                    continue
                if monotonic() > deadline:
                    reached = f"step {making.replay.learner.number} of {number}"
                    raise ERRORS.refuse("making_again", f"{reached} of its fold is reached; ask again, it goes on")
                making.replay.repeat(step)
        except Refused:
            raise
        except TRANSIENT:
            self._making = None
            raise
        except Exception as error:  # as in service, where the fold fails alone
            self._making = None
            raise ERRORS.refuse("not_explainable", _say(error)) from error
        if making.replay.learner.number != number:
            self._making = None
            raise ERRORS.refuse("not_explainable", f"the log has no step {number} of fold {fold_id}")
        making.recommender.number = number
        return making.recommender

    def _begin(self, fold_id: str, number: int) -> _Making:
        """Return what is there already and can go on to the step, or begin anew."""
        erasures, making = count_erasures(self._store), self._making
        known = making and (making.fold_id, making.erasures) == (fold_id, erasures)
        if making and known and making.replay.learner.number <= number:
            return making
        self._making = None  # before there is another
        sources = Sources.of(self._store, self._settings, Snapshots(self._settings))
        replay = begin_replay(sources, find_beginning(sources, fold_id, number))
        self._making = _Making(fold_id, replay, recommender_of(replay), erasures)
        return self._making


def _say(error: Exception) -> str:
    known = isinstance(error, RecommenderError | ValueError | OSError)
    return f"its version cannot be made again: {error if known else describe_error(error)}"
