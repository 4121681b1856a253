"""`python -m rl.registry register|alias|show`: which trained policies there are, and which of them is served.

A registered model of MLflow has a version for each artefact, and aliases for those that play a part: `champion`,
`challenger`. What is fetched is checked against the hash that was registered, and built by this project's code: nothing
that MLflow would unpickle or import. Imports mlflow, which takes seconds, in the first call.
"""

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data.command import DONE, argument_parser, command
from data.errors import RecommenderError
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.artefact import ARRAYS, DESCRIPTION, GRAPH, load_served, read_sha256
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import fetch_folder, shelve_in_place
from rl.policy.errors import PolicyError
from rl.training.run.tracking import experiment_id
from rl.training.run.tracking_client import UNWRAPPED, tracking_client, waiting, without_credentials

MODEL, CHAMPION = "raycommend", "champion"

_SHA256, _DIGEST, _NAME = "sha256", "digest", "policy"  # tags of a version
FORCED, PROMOTED, REPORT_RUN, ROLLED_BACK = "forced", "promoted", "report_run", "rolled_back"
"""Tags of a version that was promoted: why by force, when, the run that has the report, when it was taken back last."""
_FILES = (DESCRIPTION, ARRAYS, GRAPH)
_FOLDER = "policy"  # of a run's artefacts


class RegistryError(RecommenderError):
    """The registry does not answer, or has not what was asked for; says which."""


@dataclass(frozen=True, slots=True)
class RegisteredPolicy:
    """A registered version."""

    model: str
    version: int
    name: str
    """Of the policy."""
    digest: str
    """As `rl.artefacts.artefact.Artefact.digest`."""
    sha256: str
    """Of `policy.json`, which has that of the arrays."""
    forced: str | None = None
    """Why it became the champion although the gate had said no; None: it did not so."""


def register(settings: Settings, folder: Path, alias: str | None = None, model: str = MODEL) -> RegisteredPolicy:
    """Register an artefact, once however often it is registered, and give it an alias.

    Raises:
        ArtefactError: there is none, or it cannot be served.
        RegistryError: the registry does not answer.
    """
    artefact = _load(folder)
    sha256 = _sha256(folder)
    if sha256 != read_sha256(folder):
        raise ArtefactError(
            f"{folder} is a copy that users were taken out of: train the policy anew, and register that"
        )
    client = connect(settings)
    with registry_errors(settings):
        if (registered := _find_version(client, model, sha256)) is None:
            run = client.create_run(
                experiment_id(client, model, settings.tracking_files), run_name=f"{artefact.name} {artefact.digest}"
            )
            for name in _FILES:
                if name != GRAPH or artefact.graph is not None:
                    client.log_artifact(run.info.run_id, str(folder / name), _FOLDER)
            with redirect_stdout(sys.stderr):  # a tracking server's client prints where to see the run
                client.set_terminated(run.info.run_id)
            made = client.create_model_version(
                model,
                f"{run.info.artifact_uri}/{_FOLDER}",
                run.info.run_id,
                tags={_SHA256: sha256, _DIGEST: artefact.digest, _NAME: artefact.name},
            )
            registered = _to_registered(made)
        if alias:
            client.set_registered_model_alias(model, alias, str(registered.version))
    return registered


def set_alias(settings: Settings, alias: str, version: int, model: str = MODEL) -> RegisteredPolicy:
    """Give a version an alias, which another loses. With an earlier champion's version this takes a promotion back.

    Raises:
        RegistryError: there is no such version, it was not registered by `register`, or the registry does not answer.
    """
    client = connect(settings)
    with registry_errors(settings):
        registered = _to_registered(client.get_model_version(model, str(version)))
        client.set_registered_model_alias(model, alias, str(version))
    return registered


def resolve_alias(settings: Settings, model: str = MODEL, alias: str = CHAMPION) -> RegisteredPolicy | None:
    """Return the version that an alias names; None if there is no such model, or it has no such alias.

    Raises:
        RegistryError: the registry does not answer, or the version was not registered by `register`.
    """
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    with registry_errors(settings):
        try:
            return _to_registered(client.get_model_version_by_alias(model, alias))
        except MlflowException as error:
            unknown = f"alias {alias} not found" in str(error)
            if unknown or error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise


def resolve(settings: Settings, reference: str, model: str = MODEL) -> RegisteredPolicy:
    """Return a version by its number or an alias.

    Raises:
        RegistryError: there is none; or as `resolve_alias` does.
    """
    if not reference.isdecimal():
        if (registered := resolve_alias(settings, model, reference)) is None:
            raise RegistryError(
                f"{model} has no {reference}: python -m rl.registry register FOLDER --alias {reference}"
            )
        return registered
    client = connect(settings)
    with registry_errors(settings):
        return _to_registered(client.get_model_version(model, reference))


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
            present = {Path(file.path).name for file in client.list_artifacts(run, _FOLDER)}
            for name in _FILES:  # and no other file
                if name != GRAPH or name in present:
                    shutil.move(client.download_artifacts(run, f"{_FOLDER}/{name}", temporary), new / name)
        if fault := _find_fault(new, version):
            raise ArtefactError(f"version {version.version} of {version.model} is refused: {fault}")
        shelve_in_place(version.digest, new, settings)
    return fetch_folder(version.digest, settings)


def show(settings: Settings, model: str = MODEL) -> dict[str, Any]:
    """Return the versions, newest first, and the aliases.

    Raises:
        RegistryError: there is no such model, or the registry does not answer.
    """
    client = connect(settings)
    with registry_errors(settings):
        aliases = {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}
        versions = sorted(client.search_model_versions(f"name = '{model}'"), key=lambda version: -int(version.version))
    rows = [
        {
            "version": int(version.version),
            **{name: version.tags.get(name) for name in (_NAME, _DIGEST)},
            **{
                name: version.tags[name] for name in (PROMOTED, REPORT_RUN, FORCED, ROLLED_BACK) if name in version.tags
            },
        }
        for version in versions
    ]
    return {"model": model, "aliases": aliases, "versions": rows}


def connect(settings: Settings) -> Any:
    """Return MLflow's client of the registry; raises RegistryError where it does not answer."""
    with registry_errors(settings):
        return tracking_client(settings.tracking_uri)


@contextmanager
def registry_errors(settings: Settings) -> Iterator[None]:
    """Turn what MLflow raises, by itself or from a disk or a network, into an error of ours."""
    from mlflow.exceptions import MlflowException

    try:
        with waiting(settings.tracking_uri):
            yield
    except (MlflowException, *UNWRAPPED) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        uri = settings.tracking_uri
        raise RegistryError(without_credentials(uri, f"the registry at {uri}: {line}")) from None


def _find_version(client: Any, model: str, sha256: str) -> RegisteredPolicy | None:
    """Return the version of the same content, if there is one; without a model, make one."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    same = client.search_model_versions(f"name = '{model}' and tags.{_SHA256} = '{sha256}'")
    return _to_registered(same[0]) if same else None


def _to_registered(version: Any) -> RegisteredPolicy:
    if missing := [tag for tag in (_SHA256, _DIGEST, _NAME) if tag not in version.tags]:
        raise RegistryError(
            f"version {version.version} of {version.name} has no tag {', '.join(missing)}: register policies with "
            "python -m rl.registry register"
        )
    sha256, digest = version.tags[_SHA256], version.tags[_DIGEST]
    if not re.fullmatch("[0-9a-f]{64}", sha256) or digest != sha256[:8]:  # the digest will be a folder's name
        raise RegistryError(
            f"version {version.version} of {version.name} has tags that are no hashes; register it anew"
        )
    forced = version.tags.get(FORCED)
    return RegisteredPolicy(version.name, int(version.version), version.tags[_NAME], digest, sha256, forced)


def _load(folder: Path) -> Any:
    try:
        return load_served(folder)
    except PolicyError as error:
        raise ArtefactError(f"{folder} holds no policy: {error}") from error


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()


def _find_fault(folder: Path, version: RegisteredPolicy, ours: bool = False) -> str | None:
    """Say what is wrong with files that should be those of a version; None if nothing is.

    In a folder of `ours`, customers may have been taken out of the encoder since: see `rl.artefacts.erasure`.
    """
    try:
        if (sha256 := read_sha256(folder) if ours else _sha256(folder)) != version.sha256:
            return f"{DESCRIPTION} has sha256 {sha256}, registered was {version.sha256}"
        if (digest := _load(folder).digest) != version.digest:
            return f"its digest is {digest}, registered was {version.digest}"
    except (ArtefactError, OSError) as error:
        return str(error)
    return None


@command("rl.registry")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object on standard output."""
    parser = argument_parser("rl.registry", __doc__)
    parser.add_argument("--model", default=MODEL, help=f"MLflow's registered model (default: {MODEL})")
    commands = parser.add_subparsers(dest="command", required=True)
    registering = commands.add_parser("register", help="make a trained policy a version of the model")
    registering.add_argument("artefact", type=Path, help="folder written by rl.train")
    registering.add_argument("--alias", help=f"what it is from now on, such as {CHAMPION}")
    pointing = commands.add_parser("alias", help="give a version an alias, an earlier one to take a promotion back")
    pointing.add_argument("alias", help=f"such as {CHAMPION}")
    pointing.add_argument("version", type=int)
    commands.add_parser("show", help="list versions and aliases")
    options, settings = parser.parse_args(arguments), Settings()
    keep_private(settings.home)
    match options.command:
        case "register":
            answer = asdict(register(settings, options.artefact, options.alias, options.model))
        case "alias":
            answer = asdict(set_alias(settings, options.alias, options.version, options.model))
        case _:
            answer = show(settings, options.model)
    print(json.dumps(answer))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
