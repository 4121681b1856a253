"""`python -m rl.registry register|alias|show`: which trained policies there are, and which of them is served.

A registered model of MLflow has a version for each artefact, and aliases for those that play a part: `champion`,
`challenger`. The first champion is named here; others replace it by `rl.promote` alone. Imports mlflow, which takes
seconds, in the first call.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.atomic import lock
from data.command import DONE, argument_parser, command
from data.errors import RecommenderError
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.artefact import ARRAYS, DESCRIPTION, GRAPH, Artefact, load_served, read_sha256
from rl.artefacts.errors import ArtefactError
from rl.policy.errors import PolicyError
from rl.training.run.tracking import experiment_id
from rl.training.run.tracking_client import UNWRAPPED, tracking_client, waiting, without_credentials

MODEL, CHAMPION = "raycommend", "champion"

_SHA256, _DIGEST, _NAME = "sha256", "digest", "policy"  # tags of a version
FORCED, PROMOTED, REPORT_RUN, ROLLED_BACK = "forced", "promoted", "report_run", "rolled_back"
"""Tags of a version that was promoted: why by force, when, the run that has the report, when it was taken back last."""
FAILED = "failed_probation"
"""The same: why it was taken back by itself."""
FILES = (DESCRIPTION, ARRAYS, GRAPH)
"""Of a version; the graph is not always there."""
FOLDER = "policy"
"""Of a run's artefacts, in which they lie."""


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
    failed: str | None = None
    """Why it was taken back by itself, as it did worse than the champion before it; None: it was not."""


def register(settings: Settings, folder: Path, alias: str | None = None, model: str = MODEL) -> RegisteredPolicy:
    """Register an artefact, once however often it is registered, and give it an alias.

    Raises:
        ArtefactError: there is none, or it cannot be served.
        RegistryError: the registry does not answer.
    """
    artefact = load_registrable(folder)
    sha256 = hash_description(folder)
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
            for name in FILES:
                if name != GRAPH or artefact.graph is not None:
                    client.log_artifact(run.info.run_id, str(folder / name), FOLDER)
            with redirect_stdout(sys.stderr):  # a tracking server's client prints where to see the run
                client.set_terminated(run.info.run_id)
            made = client.create_model_version(
                model,
                f"{run.info.artifact_uri}/{FOLDER}",
                run.info.run_id,
                tags={_SHA256: sha256, _DIGEST: artefact.digest, _NAME: artefact.name},
            )
            registered = _to_registered(made)
    if alias:
        set_alias(settings, alias, registered.version, model)
    return registered


def set_alias(settings: Settings, alias: str, version: int, model: str = MODEL) -> RegisteredPolicy:
    """Give a version an alias, which another loses; but who is the champion stays so: `rl.promotions` replaces it.

    Raises:
        RegistryError: there is no such version, it was not registered by `register`, another one is the champion, or
            the registry does not answer.
    """
    client = connect(settings)
    with registry_errors(settings):
        registered = _to_registered(client.get_model_version(model, str(version)))
    with moving_alias(settings, alias):
        now = resolve_alias(settings, model, alias) if alias == CHAMPION else None
        if now is not None and now.version != version:
            of = "" if model == MODEL else f" --model {model}"
            raise RegistryError(
                f"version {now.version} of {model} is the {alias}; only the gate may let version {version} replace it: "
                f"python -m rl.promote {version}{of}, with --force REASON whatever the gate says"
            )
        with registry_errors(settings):
            client.set_registered_model_alias(model, alias, str(version))
    return registered


@contextmanager
def moving_alias(settings: Settings, alias: str) -> Iterator[None]:
    """Keep other processes of this home from moving aliases, between what is read of one and what is written.

    The registry has nothing that does: who moves one from another machine at the same time may come in between.

    Raises:
        RegistryError: another process moves one now.
    """

    def refusal(process: str) -> RegistryError:
        return RegistryError(f"process {process} moves an alias now, {alias} or another: ask again")

    with lock(settings.home / "aliases.lock", refusal):
        yield


def resolve_alias(settings: Settings, model: str = MODEL, alias: str = CHAMPION) -> RegisteredPolicy | None:
    """Return the version that an alias names; None if there is no such model, or it has no such alias.

    Raises:
        RegistryError: the registry does not answer, or the version was not registered by `register`.
    """
    from mlflow.exceptions import MlflowException

    if settings.registry_missing:
        return None
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
    client = _connect_to_read(settings)
    with registry_errors(settings):
        return _to_registered(client.get_model_version(model, reference))


def show(settings: Settings, model: str = MODEL) -> dict[str, Any]:
    """Return the versions, newest first, and the aliases.

    Raises:
        RegistryError: there is no such model, or the registry does not answer.
    """
    client = _connect_to_read(settings)
    with registry_errors(settings):
        aliases = {alias: int(version) for alias, version in client.get_registered_model(model).aliases.items()}
        versions = sorted(client.search_model_versions(f"name = '{model}'"), key=lambda version: -int(version.version))
    rows = [
        {
            "version": int(version.version),
            **{name: version.tags.get(name) for name in (_NAME, _DIGEST)},
            **{
                name: version.tags[name]
                for name in (PROMOTED, REPORT_RUN, FORCED, ROLLED_BACK, FAILED)
                if name in version.tags
            },
        }
        for version in versions
    ]
    return {"model": model, "aliases": aliases, "versions": rows}


def connect(settings: Settings) -> Any:
    """Return MLflow's client of the registry; raises RegistryError where it does not answer."""
    with registry_errors(settings):
        return tracking_client(settings.tracking_uri)


def _connect_to_read(settings: Settings) -> Any:
    if settings.registry_missing:
        raise RegistryError(
            f"no registry at {settings.registry_file}: its folder is RAYCOMMEND_HOME, or MLFLOW_TRACKING_URI its URI"
        )
    return connect(settings)


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
    why = (version.tags.get(FORCED), version.tags.get(FAILED))
    return RegisteredPolicy(version.name, int(version.version), version.tags[_NAME], digest, sha256, *why)


def load_registrable(folder: Path) -> Artefact:
    """Return a policy that can be served; raises ArtefactError where a folder has none."""
    try:
        return load_served(folder)
    except PolicyError as error:
        raise ArtefactError(f"{folder} holds no policy: {error}") from error


def hash_description(folder: Path) -> str:
    """Return the hash of a policy's description, which has that of its arrays."""
    return hashlib.sha256((folder / DESCRIPTION).read_bytes()).hexdigest()


@command("rl.registry")
def main(arguments: Sequence[str]) -> int:
    """Run the command: one JSON object on standard output."""
    parser = argument_parser("rl.registry", __doc__)
    parser.add_argument("--model", default=MODEL, help=f"MLflow's registered model (default: {MODEL})")
    commands = parser.add_subparsers(dest="command", required=True)
    registering = commands.add_parser("register", help="make a trained policy a version of the model")
    registering.add_argument("artefact", type=Path, help="folder written by rl.train")
    registering.add_argument("--alias", help=f"what it is from now on, such as challenger; the first {CHAMPION}, too")
    pointing = commands.add_parser("alias", help=f"give a version an alias; who replaces a {CHAMPION}, says rl.promote")
    pointing.add_argument("alias", help="such as challenger")
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
