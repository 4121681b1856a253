"""The registry as a page shows it: the champion, its challengers, and what the gate has last said of each."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from data.errors import RecommenderError
from data.settings import Settings
from rl.gate.files import read
from rl.gate.report import Report
from rl.promotions import last_failure, last_promotion
from rl.registry import CHAMPION, FAILED, FORCED, PROMOTED, ROLLED_BACK, show
from rl.trial_records import TrialRecord, fetch_trial, list_trials

_MOST = 30
"""Versions that are shown, and trials that are looked through."""


def prepare() -> None:
    """Import what reading registry and scorecards takes. Blocks for seconds, in which others are answered slowly."""
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401
    import scipy.stats  # noqa: F401 - of scorecards


@dataclass(frozen=True)
class Version:
    """A registered policy."""

    number: int
    policy: str
    digest: str
    aliases: tuple[str, ...]
    promoted: datetime | None
    forced: str | None
    rolled_back: datetime | None
    failed: str | None
    """Why it was taken back by itself."""


@dataclass(frozen=True)
class Candidate:
    """A version that may become the champion, and its last trial beside the one that is it now."""

    version: Version
    trial: TrialRecord | None
    report: Report | None
    """Of the trial; None: it came to none, or it cannot be read."""


@dataclass(frozen=True)
class Registry:
    """Who is the champion, and who might be."""

    model: str
    champion: Version | None
    before: Version | None
    """Who is the champion again after a rollback; None: nothing can be taken back."""
    last_failure: str | None
    """Which version was taken back by itself since the last promotion, and why."""
    candidates: tuple[Candidate, ...]
    """The newest first; those with an alias before all."""

    def find(self, number: int) -> Version | None:
        """Return a version by its number."""
        known = (*(one.version for one in self.candidates), *filter(None, (self.champion, self.before)))
        return next((version for version in known if version.number == number), None)


@dataclass
class RegistryReader:
    """Reads the registry; reports never change, and each is read once."""

    settings: Settings
    model: str
    _reports: dict[str, Report] = field(default_factory=dict)

    def __call__(self) -> Registry:
        """Read what is there now. Blocks; for seconds the first time, unless `prepare` was called.

        Raises:
            RegistryError: it does not answer, or there is none.
        """
        shown = show(self.settings, self.model)
        named = dict[int, list[str]]()
        for alias, number in shown["aliases"].items():
            named.setdefault(number, []).append(alias)
        versions = [_version(row, named) for row in shown["versions"]]
        champion = next((one for one in versions if CHAMPION in one.aliases), None)
        promotion = last_promotion(self.settings, self.model)
        number = None if promotion is None else promotion.before.version
        before = next((one for one in versions if one.number == number), None)
        others = sorted(
            (one for one in versions if one is not champion), key=lambda one: (not one.aliases, -one.number)
        )
        return Registry(
            model=self.model,
            champion=champion,
            before=before,
            last_failure=last_failure(self.settings, self.model),
            candidates=tuple(self._candidates(others[:_MOST], champion)),
        )

    def report(self, run_id: str) -> Report:
        """Return the report of a trial. Blocks.

        Raises:
            RegistryError: there is no such trial, or the registry does not answer.
            ReportError: its report cannot be read.
        """
        if run_id not in self._reports:
            with fetch_trial(self.settings, run_id) as folder:
                self._reports[run_id] = read(folder)
            if len(self._reports) > 2 * _MOST:
                del self._reports[next(iter(self._reports))]
        return self._reports[run_id]

    def _candidates(self, versions: list[Version], champion: Version | None) -> list[Candidate]:
        trials = dict[str, TrialRecord]()
        for trial in list_trials(self.settings, self.model, _MOST):
            if champion is not None and trial.champion == champion.digest:
                trials.setdefault(trial.challenger, trial)
        return [self._candidate(one, trials.get(one.digest)) for one in versions]

    def _candidate(self, version: Version, trial: TrialRecord | None) -> Candidate:
        if trial is None or trial.status != "done":
            return Candidate(version, trial, None)
        try:
            return Candidate(version, trial, self.report(trial.run_id))
        except RecommenderError:  # its verdict, which the run has, is shown all the same
            return Candidate(version, trial, None)


def _version(row: dict[str, Any], aliases: dict[int, list[str]]) -> Version:
    return Version(
        number=row["version"],
        policy=row["policy"] or "unknown",
        digest=row["digest"] or "",
        aliases=tuple(sorted(aliases.get(row["version"], ()))),
        promoted=_time(row.get(PROMOTED)),
        forced=row.get(FORCED),
        rolled_back=_time(row.get(ROLLED_BACK)),
        failed=row.get(FAILED),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
