"""`python -m serve.audit`: a day's decisions, made again from the log and the policies that were kept.

Reports how many are not what the log says (must be 0), whether items were shown as often as their probabilities say,
and the mean of 1/p, which is the mean number of candidates if the probabilities are those that were drawn from.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

from data.command import AMISS, DONE, argument_parser, command
from data.log.archiving.retention import find_expired
from data.log.store import Store
from data.log.unreadable import Fault
from data.private import keep_private
from data.settings import Settings
from rl.policy.arrays import FloatArray
from serve.audit.erasures import Erasures
from serve.audit.replay import Comparison, repeat_all

BINS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.7, 0.9, 1.0)
_SHOWN = 20  # mismatches that are listed
_PICTURES = (".png", ".svg", ".pdf")


@dataclass
class Calibration:
    """How often candidates of a probability were chosen for the first slot, by bin of that probability."""

    n: FloatArray = field(default_factory=lambda: np.zeros(len(BINS) - 1))
    expected: FloatArray = field(default_factory=lambda: np.zeros(len(BINS) - 1))
    """Sum of the probabilities."""
    variance: FloatArray = field(default_factory=lambda: np.zeros(len(BINS) - 1))
    """Sum of p (1 - p)."""
    chosen: FloatArray = field(default_factory=lambda: np.zeros(len(BINS) - 1))

    def add(self, distribution: FloatArray, chosen: int) -> None:
        """Count a decision's candidates."""
        possible = np.flatnonzero(distribution)
        p = distribution[possible]
        at = np.clip(np.searchsorted(BINS, p) - 1, 0, len(BINS) - 2)
        np.add.at(self.n, at, 1)
        np.add.at(self.expected, at, p)
        np.add.at(self.variance, at, p * (1 - p))
        self.chosen[at[possible == chosen]] += 1

    def rows(self) -> list[dict[str, float]]:
        """Return the bins that have any; z is how many standard deviations the number chosen is from the expected."""
        rows = []
        for i in np.flatnonzero(self.n):
            deviation = float(np.sqrt(self.variance[i]))
            z = (self.chosen[i] - self.expected[i]) / deviation if deviation else 0.0
            rows.append(
                {
                    "from": BINS[i],
                    "to": BINS[i + 1],
                    "candidates": int(self.n[i]),
                    "probability": float(self.expected[i] / self.n[i]),
                    "frequency": float(self.chosen[i] / self.n[i]),
                    "z": round(float(z), 2),
                }
            )
        return rows


@dataclass
class Audit:
    """What was found."""

    decisions: int = 0
    mismatches: list[str] = field(default_factory=list)
    """Decisions that are not what the log says, each with what differs."""
    repeated: int = 0
    """Decisions that are the same made again, bit by bit."""
    erased: Counter[str] = field(default_factory=Counter)
    """Those that cannot be made again since a user was forgotten, by fold and why: what the policy had learned from
    them is gone."""
    expired: int = 0
    """Those that cannot be made again as what their fold had learned is not kept any more."""
    provable_since: date | None = None
    """The first day of which, and of all after it, the log has all rows; None: it has all rows of all days."""
    unreadable: list[str] = field(default_factory=list)
    """Decisions of the log that cannot be read back, each with the reason."""
    calibration: Calibration = field(default_factory=Calibration)
    inverse: float = 0.0
    """Sum of 1/p of the first slots that were drawn."""
    possible: float = 0.0
    """Sum of the numbers of candidates that could have been drawn there."""
    drawn: int = 0

    def add(self, repeated: Comparison, erasures: Erasures, last_expired: datetime | None = None) -> None:
        """Count a decision."""
        self.decisions += 1
        decision, distribution = repeated.logged, repeated.distribution
        if repeated.differs:
            if (why := erasures.excuse(repeated)) is not None:
                self.erased[f"fold {repeated.fold.fold_id}: {why}"] += 1
            elif last_expired and repeated.fold.since and repeated.fold.since <= last_expired:
                self.expired += 1
            else:
                self.mismatches.append(f"{decision.decision_id}: {repeated.differs}")
            return
        self.repeated += 1
        if distribution is not None and decision.mode == "explore" and decision.slate:
            self.calibration.add(distribution, decision.candidates.index(decision.slate[0]))
            self.inverse += 1 / decision.propensities[0]
            self.possible += np.count_nonzero(distribution)
            self.drawn += 1

    def report(self) -> dict[str, object]:
        """Return it as JSON has it."""
        drawn = max(self.drawn, 1)
        return {
            "decisions": self.decisions,
            "repeated": self.repeated,
            "mismatches": len(self.mismatches),
            "first_mismatches": self.mismatches[:_SHOWN],
            "not_repeatable_after_erasure": self.erased.total(),
            "first_not_repeatable": dict(self.erased.most_common(_SHOWN)),
            "not_repeatable_after_retention": self.expired,
            "provable_since": None if self.provable_since is None else str(self.provable_since),
            "unreadable": len(self.unreadable),
            "first_unreadable": self.unreadable[:_SHOWN],
            "drawn": self.drawn,
            "mean_inverse_propensity": self.inverse / drawn,
            "mean_candidates": self.possible / drawn,
            "calibration": self.calibration.rows(),
        }


def audit(store: Store, settings: Settings, since: datetime, until: datetime, *, from_snapshots: bool = True) -> Audit:
    """Make the decisions of a time again; see `serve.audit.replay.repeat_all`."""
    found, erasures, expired = Audit(), Erasures.of(store, settings), find_expired(store)
    if expired:
        found.provable_since = expired.until + timedelta(days=1)
    faults = list[Fault]()
    with threadpool_limits(1, "blas"):  # as the service computes: more threads add in another order
        for repeated in repeat_all(store, settings, since, until, faults, from_snapshots=from_snapshots):
            found.add(repeated, erasures, expired and expired.last)
    found.unreadable = [f"row {fault.seq} of {fault.table}: {fault.reason}" for fault in faults]
    return found


def draw_calibration(rows: Iterable[dict[str, float]], path: Path) -> None:
    """Save a picture of the calibration: what was chosen against what was to be expected."""
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="probability", ylabel="share of times chosen", title="calibration of the first slot"
    )
    p = np.array([row["probability"] for row in rows])
    frequency, n = np.array([row["frequency"] for row in rows]), np.array([row["candidates"] for row in rows])
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    axes.errorbar(p, frequency, yerr=2 * np.sqrt(p * (1 - p) / np.maximum(n, 1)), fmt="o", capsize=3)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _day(text: str) -> date:
    day = date.fromisoformat(text)
    if day == date.max:
        raise argparse.ArgumentTypeError(f"{text} has no day after it")
    return day


def _picture(text: str) -> Path:
    path = Path(text)
    if path.suffix not in _PICTURES:
        raise argparse.ArgumentTypeError(f"expected a file with the extension {' '.join(_PICTURES)}, got {text!r}")
    return path


@command("serve.audit")
def main(arguments: Sequence[str]) -> int:
    """Run the command: the report as JSON on standard output."""
    parser = argument_parser("serve.audit", __doc__)
    parser.add_argument("--day", type=_day, default=None, help="in UTC; default: today")
    parser.add_argument("--home", type=Path, default=None, help="default: RAYCOMMEND_HOME")
    parser.add_argument(
        "--from-beginning", action="store_true", help="make states again from the log's first row, not from snapshots"
    )
    parser.add_argument("--picture", type=_picture, default=None, help="default: audit/DAY.png in the home")
    options = parser.parse_args(arguments)
    settings = Settings(home=options.home, store=None, archive=None) if options.home else Settings()
    keep_private(settings.home)
    day = options.day or datetime.now(UTC).date()
    since = datetime(day.year, day.month, day.day, tzinfo=UTC)
    found = audit(
        Store.open(settings.store_url, make=False),
        settings,
        since,
        since + timedelta(days=1),
        from_snapshots=not options.from_beginning,
    )
    report = found.report()
    picture = options.picture or settings.home / "audit" / f"{day}.png"
    draw_calibration(found.calibration.rows(), picture)
    print(json.dumps({"day": str(day), **report, "picture": str(picture)}))
    return AMISS if found.mismatches or found.unreadable else DONE
