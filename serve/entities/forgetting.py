"""Erasure of a user from every place that a service writes to."""

from collections.abc import Callable, Mapping, Sequence

from data.archive.erasure import erase_from_archive
from data.archive.parquet import Archive, NodeInUse
from data.errors import DataError, RecommenderError
from data.log.erasures import erase_from_store
from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.settings import Settings
from rl.artefacts.erasure import erase_from_artefacts
from rl.artefacts.errors import ArtefactError
from rl.online.snapshots import Snapshots
from rl.policy.errors import PolicyError
from rl.provenance.capture import ProofSettings
from rl.provenance.erasure import prove
from rl.provenance.proofs import Proofs


class Incomplete(RecommenderError):  # noqa: N818 - a state that asking again ends
    """Some places have not forgotten the user yet."""

    def __init__(self, done: Sequence[str], failures: Mapping[str, Exception]) -> None:
        """Build it; `done` and the keys of `failures` name places."""
        self.done, self.failures = done, failures
        super().__init__("; ".join(f"{place}: {error}" for place, error in failures.items()))

    @property
    def client_message(self) -> str:
        """What is forgotten and what is not, for a client."""
        done = f"forgotten in {' and '.join(self.done)}" if self.done else "forgotten nowhere yet"
        missing = "; ".join(f"not finished in {place}: {_describe(error)}" for place, error in self.failures.items())
        return f"{done}; {missing}"


def forget(store: Store, settings: Settings, user_id: str, limits: ProofSettings | None = None) -> dict[str, int]:
    """Remove a user from trained policies, derived tables, snapshots, the archive and the store.

    First what decisions about others need to be made again without them is kept (`rl.provenance`); until that is done,
    nothing is removed. The store comes after what is trained: what it notes is when the service begins anew to learn
    from a log without them. Snapshots come last: until the store is done, new ones are saved. May be run again, and
    completes what a run that failed or was killed has begun: each place is tried, whatever the others say.

    Args:
        store: the log.
        settings: where all else lies.
        user_id: the user.
        limits: what may be kept, and how long that may take.

    Returns:
        The number of rows (of artefacts: those that knew them) by place.

    Raises:
        Incomplete: a node is being ingested into the archive, a trained policy is damaged, or the store or the archive
            cannot answer.
    """
    counts, done, failures = dict[str, int](), list[str](), dict[str, Exception]()
    try:
        proof = prove(store, settings, user_id, limits or ProofSettings())
    except (DataError, StoreUnavailable) as error:
        raise Incomplete([], {"what proves the decisions about others": error}) from error
    proofs = Proofs(settings)

    def erase_rows() -> dict[str, int]:
        rows = erase_from_store(store, user_id, lambda seq, time: proofs.confirm(proof, seq, time) if proof else None)
        proofs.finish(user_id)
        return rows

    places: dict[str, Callable[[], dict[str, int]]] = {
        "the trained policies": lambda: erase_from_artefacts(settings, user_id),
        "the archive": lambda: erase_from_archive(Archive.at(settings.archive_uri), user_id),
        "the log": erase_rows,
        "the snapshots": lambda: {"snapshots": Snapshots(settings).forget(user_id)},
    }
    for place, erase in places.items():
        try:
            counts |= erase()
            done.append(place)
        except (DataError, ArtefactError, PolicyError, StoreUnavailable) as error:
            failures[place] = error
    if failures:
        raise Incomplete(done, failures)
    return counts


def _describe(error: Exception) -> str:
    if isinstance(error, StoreUnavailable):
        return error.client_message
    if isinstance(error, NodeInUse):
        return "a node is being ingested, ask again when that has ended"
    if isinstance(error, DataError):
        return "the archive does not answer or lacks a file, the service's log says which: ask again when it is there"
    return "it is damaged, the log says which"
