"""The experiments that a training or tuning can be started from: those that ship, and those in the home's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import rl
from data.errors import DataError
from data.settings import Settings
from rl.config import read_toml

Work = Literal["train", "tune"]
ROOT: Final = Path(rl.__file__).resolve().parents[1]
"""The folder that has our packages."""
FOLDER: Final = "experiments"
SEARCH: Final = "search"
"""The folder within, of what is tuned."""
_MOST: Final = 200
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Experiment:
    """A TOML file that can be run."""

    key: str
    """What a form calls it: `shipped/shop`, `own/search/mine`."""
    path: Path
    work: Work
    name: str
    """Of the run; one that was stopped is continued by it."""
    about: str
    """What the file says of itself, in its first line."""
    problem: str | None = None
    """Why it cannot be run."""

    @property
    def own(self) -> bool:
        """Whether it lies in the home's folder."""
        return self.key.startswith("own/")


def list_experiments(settings: Settings) -> dict[str, Experiment]:
    """Return the experiments, by key. Reads files."""
    found = dict[str, Experiment]()
    folders = (("shipped", ROOT / "rl" / FOLDER), ("own", settings.home.absolute() / FOLDER))
    for whose, folder in folders:
        for work, within in (("train", folder), ("tune", folder / SEARCH)):
            for path in sorted(within.glob("*.toml"))[:_MOST]:
                key = f"{whose}/{path.relative_to(folder).with_suffix('')}"
                found[key] = _read(key, path, "tune" if work == "tune" else "train")
    return found


def _read(key: str, path: Path, work: Work) -> Experiment:
    try:
        values = read_toml(path)
        first = path.read_text().partition("\n")[0]
    except (DataError, OSError, ValueError) as error:
        return Experiment(key, path, work, path.stem, "", problem=str(error)[:_LONGEST])
    about = first.removeprefix("#").strip() if first.startswith("#") else ""
    return Experiment(key, path, work, str(values.get("name", path.stem))[:_LONGEST], about[:_LONGEST])
