"""The shelf: every artefact that was ever served, by its digest. An audit finds it there, whatever the registry has.

It is with the archive, so that a learner on any node finds it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from data.archive.objects import SERVED, Objects
from data.errors import DataError
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load_served, save
from rl.artefacts.errors import ArtefactError


def shelve(folder: Path, settings: Settings) -> Artefact:
    """Load an artefact and copy it to the shelf.

    Raises:
        ArtefactError: the folder holds none that can be served, or the archive does not answer.
        PolicyError: its arrays do not fit its description.
    """
    artefact = load_served(folder)
    try:
        shelf = open_shelf(settings)
        if not shelf.has(artefact.digest):  # else users may have been taken out of it
            shelf.put(artefact.digest, folder)
    except DataError as error:
        raise ArtefactError(f"{artefact.name} cannot be kept: {error}") from error
    return load_shelved(artefact.digest, settings)


def shelve_new(artefact: Artefact, settings: Settings) -> Artefact:
    """Write an artefact that is in no folder yet to the shelf, and return it with its digest.

    Raises:
        ArtefactError: the archive does not answer.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.home, prefix=".artefact-") as temporary:
        saved = save(artefact, Path(temporary) / "new")
        shelve(Path(temporary) / "new", settings)
    return saved


def shelve_in_place(digest: str, folder: Path, settings: Settings) -> None:
    """Copy an artefact to the shelf, in place of a damaged one of its digest.

    Raises:
        ArtefactError: the archive does not answer.
    """
    try:
        open_shelf(settings).replace(digest, folder)
    except DataError as error:
        raise ArtefactError(f"artefact {digest} cannot be kept: {error}") from error


def load_shelved(digest: str, settings: Settings) -> Artefact:
    """Load an artefact from the shelf; each call gives policies of its own, as a fold changes them.

    Decisions and audits both go through here: another way of computing the same would round differently.

    Raises:
        ArtefactError: there is none of this digest, it was changed, or the archive does not answer.
        PolicyError: its arrays do not fit its description.
    """
    folder = fetch_folder(digest, settings)
    artefact = load_served(folder)
    if artefact.digest != digest:
        raise ArtefactError(f"{folder} holds the artefact {artefact.digest}: it was changed")
    return artefact


def fetch_folder(digest: str, settings: Settings) -> Path:
    """Return a local copy of the artefact of a digest, not to be written to.

    Raises:
        ArtefactError: as `load_shelved` does.
    """
    try:
        return open_shelf(settings).get(digest)
    except DataError as error:
        raise ArtefactError(f"no artefact {digest} can be served: {error}") from error


def open_shelf(settings: Settings) -> Objects:
    """Return the shelf: artefacts by digest.

    Raises:
        DataError: the archive's URI names no filesystem that pyarrow knows.
    """
    return Objects.at(settings.archive_uri, SERVED, settings.home / "cache")
