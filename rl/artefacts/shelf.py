"""What was ever served, each artefact once by its digest: an audit finds it, whatever the registry holds by then."""

import shutil
from pathlib import Path
from uuid import uuid4

from data.atomic import name_folder
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load_served, save
from rl.artefacts.errors import ArtefactError


def keep(folder: Path, settings: Settings) -> Artefact:
    """Load an artefact and copy it to what was served.

    Raises:
        ArtefactError: the folder holds none that can be served.
        PolicyError: its arrays do not fit its description.
    """
    artefact = load_served(folder)
    into = folder_of(artefact.digest, settings)
    if not into.exists():
        aside = into.with_name(f"{artefact.digest}.{uuid4().hex}")  # complete before it has the name
        shutil.copytree(folder, aside)
        name_folder(aside, into)
    return load_kept(artefact.digest, settings)


def keep_new(artefact: Artefact, settings: Settings) -> Artefact:
    """Write an artefact that lies nowhere yet to what was served, and return it with its digest."""
    aside = folder_of(uuid4().hex, settings)
    saved = save(artefact, aside)
    name_folder(aside, folder_of(saved.digest, settings))
    return saved


def load_kept(digest: str, settings: Settings) -> Artefact:
    """Load what was served; each call gives policies of its own, as a fold changes them.

    Decisions and audits both go through here: another way of computing the same would round differently.

    Raises:
        ArtefactError: there is none of this digest, or it is not what was kept.
        PolicyError: its arrays do not fit its description.
    """
    artefact = load_served(folder_of(digest, settings))
    if artefact.digest != digest:
        raise ArtefactError(f"{folder_of(digest, settings)} holds the artefact {artefact.digest}: it was changed")
    return artefact


def folder_of(digest: str, settings: Settings) -> Path:
    """Return where the artefact of a digest is kept."""
    return settings.home / "served" / digest
