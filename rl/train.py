"""`python -m rl.train [EXPERIMENT.toml] [--field value ...]`: train a policy and save it as an artefact."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.command import DONE, NOT_REGISTERED, command, complain
from data.errors import RecommenderError
from data.private import keep_private
from data.settings import Settings
from rl.artefacts.artefact import DESCRIPTION
from rl.artefacts.errors import ArtefactError
from rl.config import TrainingConfig, parse_config
from rl.registry import register, set_alias
from rl.training.kinds.registry import KINDS, RETAIL, find, kind_in

_HELP = """usage: python -m rl.train [EXPERIMENT.toml] [--field value ...]

Train the policy that a TOML file describes; fields given here win over the file's. Examples: rl/experiments/*.toml.
A run that was killed goes on from its checkpoint when the same command is given again.

kinds of experiments (`kind` in the file, or --kind; {default} if neither names one):
{kinds}

python -m rl.train --kind KIND --help  lists the fields of a kind
"""


@command("rl.train")
def main(arguments: Sequence[str]) -> int:
    """Run the command: progress on standard error, the report as JSON on standard output."""
    name = kind_in(arguments)
    if name is None and {"-h", "--help"} & set(arguments):
        print(_help(), end="")
        return DONE
    kind = find(name or RETAIL)
    experiment, settings = parse_config(kind.experiment, arguments), Settings()
    _check_folder(experiment.folder(settings))
    keep_private(settings.home)
    report = kind.run(experiment, settings)
    status = _register(report, experiment, settings) if experiment.register_as else DONE
    print(json.dumps(report))
    return status


def _check_folder(folder: Path) -> None:
    """Refuse a folder of something else than a policy: what it holds would be deleted when the policy is saved."""
    if folder.is_dir() and not (folder / DESCRIPTION).is_file() and any(folder.iterdir()):
        raise ArtefactError(f"{folder} holds something else than a policy and would be replaced: choose another --out")
    if folder.exists() and not folder.is_dir():
        raise ArtefactError(f"{folder} is no folder: choose another --out")


def _register(report: dict[str, Any], experiment: TrainingConfig, settings: Settings) -> int:
    """Register what was trained, and say so in the report; returns the exit status. The artefact is not lost by it."""
    folder, alias = experiment.folder(settings), str(experiment.register_as)
    report |= {"registered": None}
    try:
        report |= {"registered": register(settings, folder).version}
        set_alias(settings, alias, report["registered"])
        report |= {"as": alias}
    except RecommenderError as error:
        where = f"trained, the policy lies in {folder}"
        if (version := report["registered"]) is not None:
            complain("rl.train", f"{where} and is version {version} of the registry, but not {alias}: {error}")
            return NOT_REGISTERED
        again = f"python -m rl.registry register {folder} --alias {alias}"
        complain("rl.train", f"{where}; not registered: {error}; later: {again}")
        return NOT_REGISTERED
    return DONE


def _help() -> str:
    kinds = {kind: (find(kind).experiment.__doc__ or "").splitlines()[0] for kind in KINDS}
    return _HELP.format(default=RETAIL, kinds="\n".join(f"  {kind:8} {line}" for kind, line in kinds.items()))


if __name__ == "__main__":
    sys.exit(main())
