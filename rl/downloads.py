"""Registered policies, brought to this machine: from the shelf, or from the registry and to the shelf.

What is fetched is checked against the hash that was registered, and built by this project's code: nothing that MLflow
would unpickle or import.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from data.settings import Settings
from rl.artefacts.artefact import DESCRIPTION, GRAPH, read_sha256
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import fetch_folder, shelve_in_place
from rl.registry import FILES, FOLDER, RegisteredPolicy, connect, hash_description, load_registrable, registry_errors


def fetch(settings: Settings, version: RegisteredPolicy) -> Path:
    """Return a local folder with a version's artefact, from the shelf; download it to there where it is not.

    Raises:
        ArtefactError: what was downloaded is not what was registered, or cannot be served; nothing is kept of it. Or it
            cannot be put on the shelf.
        RegistryError: the registry does not answer, or its files are gone.
    """
    with suppress(ArtefactError):
        folder = fetch_folder(version.digest, settings)
        if _find_fault(folder, version, ours=True) is None:
            return folder
    settings.home.mkdir(parents=True, exist_ok=True)
    client = connect(settings)
    with TemporaryDirectory(dir=settings.home, prefix=".fetched-") as temporary:
        new = Path(temporary) / version.digest
        new.mkdir()
        with registry_errors(settings):
            run = client.get_model_version(version.model, str(version.version)).run_id
            present = {Path(file.path).name for file in client.list_artifacts(run, FOLDER)}
            for name in FILES:  # and no other file
                if name != GRAPH or name in present:
                    shutil.move(client.download_artifacts(run, f"{FOLDER}/{name}", temporary), new / name)
        if fault := _find_fault(new, version):
            raise ArtefactError(f"version {version.version} of {version.model} is refused: {fault}")
        shelve_in_place(version.digest, new, settings)
    return fetch_folder(version.digest, settings)


def _find_fault(folder: Path, version: RegisteredPolicy, ours: bool = False) -> str | None:
    """Say what is wrong with files that should be those of a version; None if nothing is.

    In a folder of `ours`, customers may have been taken out of the encoder since: see `rl.artefacts.erasure`.
    """
    try:
        if (sha256 := read_sha256(folder) if ours else hash_description(folder)) != version.sha256:
            return f"{DESCRIPTION} has sha256 {sha256}, registered was {version.sha256}"
        if (digest := load_registrable(folder).digest) != version.digest:
            return f"its digest is {digest}, registered was {version.digest}"
    except (ArtefactError, OSError) as error:
        return str(error)
    return None
