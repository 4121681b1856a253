"""What was ever served, each artefact once by its digest: an audit finds it, whatever the registry holds by then.

It lies with the archive, so that a learner on any node finds it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from data.archive.objects import Objects
from data.errors import DataError
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load_served, save
from rl.artefacts.errors import ArtefactError


def keep(folder: Path, settings: Settings) -> Artefact:
    """Load an artefact and copy it to what was served.

    Raises:
        ArtefactError: the folder holds none that can be served, or the archive does not answer.
        PolicyError: its arrays do not fit its description.
    """
    artefact = load_served(folder)
    try:
        shelf = shelf_at(settings)
        if not shelf.has(artefact.digest):  # else users may have been taken out of it
            shelf.put(artefact.digest, folder)
    except DataError as error:
        raise ArtefactError(f"{artefact.name} cannot be kept: {error}") from error
    return load_kept(artefact.digest, settings)


def keep_new(artefact: Artefact, settings: Settings) -> Artefact:
    """Write an artefact that lies nowhere yet to what was served, and return it with its digest.

    Raises:
        ArtefactError: the archive does not answer.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=settings.home, prefix=".artefact-") as temporary:
        saved = save(artefact, Path(temporary) / "new")
        keep(Path(temporary) / "new", settings)
    return saved


def keep_in_place(digest: str, folder: Path, settings: Settings) -> None:
    """Copy an artefact to what was served, in the place of what has its digest there and is damaged.

    Raises:
        ArtefactError: the archive does not answer.
    """
    try:
        shelf_at(settings).replace(digest, folder)
    except DataError as error:
        raise ArtefactError(f"artefact {digest} cannot be kept: {error}") from error


def load_kept(digest: str, settings: Settings) -> Artefact:
    """Load what was served; each call gives policies of its own, as a fold changes them.

    Decisions and audits both go through here: another way of computing the same would round differently.

    Raises:
        ArtefactError: there is none of this digest, it is not what was kept, or the archive does not answer.
        PolicyError: its arrays do not fit its description.
    """
    folder = folder_of(digest, settings)
    artefact = load_served(folder)
    if artefact.digest != digest:
        raise ArtefactError(f"{folder} holds the artefact {artefact.digest}: it was changed")
    return artefact


def folder_of(digest: str, settings: Settings) -> Path:
    """Return a local copy of the artefact of a digest, not to be written to.

    Raises:
        ArtefactError: as `load_kept` does.
    """
    try:
        return shelf_at(settings).get(digest)
    except DataError as error:
        raise ArtefactError(f"no artefact {digest} can be served: {error}") from error


def shelf_at(settings: Settings) -> Objects:
    """Return what was served, by digest.

    Raises:
        DataError: the archive's URI names no filesystem that pyarrow knows.
    """
    return Objects.at(settings.archive_uri, "served", settings.home / "cache")
