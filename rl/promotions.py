"""What the registry knows of promotions: which versions an alias has named, by which report, and why by force.

A version that was promoted has tags that say when, by which report, and if
by force why; the model has those that an alias has named before, for a promotion to be taken back. One that was taken
back by itself, as it did worse than the champion before it, is promoted again by force only.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data.settings import Settings
from rl.registry import (
    CHAMPION,
    FAILED,
    FORCED,
    MODEL,
    PROMOTED,
    REPORT_RUN,
    ROLLED_BACK,
    RegisteredPolicy,
    RegistryError,
    connect,
    moving_alias,
    registry_errors,
    resolve,
    resolve_alias,
)
from rl.trial_records import LONGEST, REPORT_FOLDER

_HISTORY = "history."  # of an alias, as a tag of the model
_LAST_FAILED = "failed."  # the same: what was taken back by itself since the last promotion


def promote(
    settings: Settings,
    version: RegisteredPolicy,
    champion: RegisteredPolicy,
    run_id: str,
    forced: str | None = None,
    alias: str = CHAMPION,
) -> None:
    """Let an alias name a version, and say there why.

    Args:
        settings: where the registry is.
        version: the challenger.
        champion: what the challenger was compared with.
        run_id: that has the report.
        forced: why, although the gate says no; None: it says yes.
        alias: that moves.

    Raises:
        RegistryError: another version is the champion by now, another process moves an alias now, it was taken back by
            itself before and this is not by force, or the registry does not answer.
    """
    client, number = connect(settings), str(version.version)
    with moving_alias(settings, alias):
        now = resolve_alias(settings, version.model, alias)
        if now is None or now.version != champion.version:
            found = "none" if now is None else f"version {now.version}"
            raise RegistryError(
                f"{alias} is {found} by now, the challenger was compared with version {champion.version}"
            )
        with registry_errors(settings):
            tags: Mapping[str, str] = client.get_model_version(version.model, number).tags
            if FAILED in tags and forced is None:
                raise RegistryError(
                    f"version {number} was {alias} and was rolled back by itself: {tags[FAILED]}; only --force REASON "
                    "promotes it again"
                )
            for name, value in {PROMOTED: _now(), REPORT_RUN: run_id}.items():
                client.set_model_version_tag(version.model, number, name, value)
            if forced is not None:
                client.set_model_version_tag(version.model, number, FORCED, forced[:LONGEST])
            elif FORCED in tags:
                client.delete_model_version_tag(version.model, number, FORCED)
            if FAILED in tags:
                client.delete_model_version_tag(version.model, number, FAILED)
            if _LAST_FAILED + alias in client.get_registered_model(version.model).tags:
                client.delete_registered_model_tag(version.model, _LAST_FAILED + alias)
            # Before the alias: a process that is killed between the two leaves what `roll_back` passes over.
            _write_history(client, version.model, alias, [*_history(client, version.model, alias), champion.version])
            client.set_registered_model_alias(version.model, alias, number)


def roll_back(
    settings: Settings, model: str = MODEL, alias: str = CHAMPION, failed: str | None = None, version: int | None = None
) -> tuple[int, int]:
    """Let an alias name again what it named before the last promotion; returns what it has named, and what it names.

    Args:
        settings: where the registry is.
        model: the registered model.
        alias: that moves.
        failed: why it is taken back by itself; None: somebody asks for it.
        version: that the alias must name now; None: whichever it does.

    Raises:
        RegistryError: nothing was promoted, the alias names another version, another process moves an alias now, or the
            registry does not answer.
    """
    with moving_alias(settings, alias):
        if (now := resolve_alias(settings, model, alias)) is None:
            raise RegistryError(f"{model} has no {alias}")
        client = connect(settings)
        if version is not None and now.version != version:
            raise RegistryError(f"{alias} of {model} is version {now.version} by now, not {version}")
        with registry_errors(settings):
            history = _history(client, model, alias)
            there = {int(one.version) for one in client.search_model_versions(f"name = '{model}'")}
            while history and (history[-1] == now.version or history[-1] not in there):  # or it was deleted since
                history.pop()
            if not history:
                raise RegistryError(f"nothing was promoted to {alias} of {model} that could be taken back")
            before = history.pop()
            if failed is not None:  # before the alias: what is taken back says why, whenever one looks
                client.set_model_version_tag(model, str(now.version), FAILED, failed[:LONGEST])
                said = f"version {now.version} was rolled back: {failed}"
                client.set_registered_model_tag(model, _LAST_FAILED + alias, said[:LONGEST])
            client.set_registered_model_alias(model, alias, str(before))
            client.set_model_version_tag(model, str(now.version), ROLLED_BACK, _now())
            _write_history(client, model, alias, history)
    return now.version, before


@dataclass(frozen=True)
class Promotion:
    """The last promotion of an alias."""

    version: RegisteredPolicy
    before: RegisteredPolicy
    time: datetime


def last_promotion(settings: Settings, model: str = MODEL, alias: str = CHAMPION) -> Promotion | None:
    """Return how the version that an alias names became that; None: not by a promotion that could be taken back.

    Raises:
        RegistryError: the registry does not answer.
    """
    client, now = connect(settings), resolve_alias(settings, model, alias)
    if now is None:
        return None
    with registry_errors(settings):
        history = [version for version in _history(client, model, alias) if version != now.version]
        tags: Mapping[str, str] = client.get_model_version(model, str(now.version)).tags
    if not history or PROMOTED not in tags:
        return None
    before = resolve(settings, str(history[-1]), model)
    return Promotion(now, before, datetime.fromisoformat(tags[PROMOTED]))


def last_failure(settings: Settings, model: str = MODEL, alias: str = CHAMPION) -> str | None:
    """Return which version was taken back by itself, and why; None: none was since the last promotion.

    Raises:
        RegistryError: the registry does not answer.
    """
    client = connect(settings)
    with registry_errors(settings):
        tags: Mapping[str, str] = client.get_registered_model(model).tags
    return tags.get(_LAST_FAILED + alias)


@contextmanager
def fetch_report(settings: Settings, version: RegisteredPolicy) -> Iterator[Path]:
    """Yield a folder with the report that a version was promoted by.

    Raises:
        RegistryError: it was not promoted, or the registry does not answer.
    """
    client = connect(settings)
    with TemporaryDirectory(prefix="report-") as folder:
        with registry_errors(settings):
            tags: Mapping[str, str] = client.get_model_version(version.model, str(version.version)).tags
            if REPORT_RUN not in tags:
                raise RegistryError(f"version {version.version} of {version.model} was not promoted by the gate")
            path = Path(client.download_artifacts(tags[REPORT_RUN], REPORT_FOLDER, folder))
        yield path


def _history(client: Any, model: str, alias: str) -> list[int]:
    return [int(version) for version in json.loads(client.get_registered_model(model).tags.get(_HISTORY + alias, "[]"))]


def _write_history(client: Any, model: str, alias: str, versions: Sequence[int]) -> None:
    while len(text := json.dumps(list(versions))) > LONGEST:
        versions = versions[1:]
    client.set_registered_model_tag(model, _HISTORY + alias, text)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
