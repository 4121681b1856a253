"""The right to be forgotten, in every place that a service writes to. No Ray, no HTTP."""

from collections.abc import Callable

from data.archive import Archive
from data.erasure import erase_from_archive, erase_from_store
from data.errors import DataError
from data.settings import Settings
from data.store import Store
from rl.artefact import ArtefactError
from rl.erasure import erase_from_home
from rl.policy import PolicyError


def forget(store: Store, settings: Settings, user_id: str) -> dict[str, int]:
    """Remove a user from trained policies, derived tables, the archive and the store.

    The store comes last: what it notes is when the service begins anew to learn from a log without him. May be run
    again, and completes what a run that failed or was killed has begun: each place is tried, whatever the others say.

    Returns:
        The number of rows (of artefacts: those that knew him) by place.

    Raises:
        DataError: a node is being ingested into the archive.
        ArtefactError, PolicyError: a trained policy is damaged.
        StoreUnavailable: the store cannot answer now.
    """
    counts, failures = dict[str, int](), list[Exception]()
    places: list[Callable[[], dict[str, int]]] = [
        lambda: erase_from_home(settings.home, user_id),
        lambda: erase_from_archive(Archive.at(settings.archive_uri), user_id),
        lambda: erase_from_store(store, user_id),
    ]
    for erase in places:
        try:
            counts |= erase()
        except (DataError, ArtefactError, PolicyError) as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return counts
