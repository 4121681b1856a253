"""What goes wrong, one after the other, with traffic: `python -m tests.bench.faults [NAME ...]`.

All take half an hour. Who names some adds to those that were done before with the same code.

Each fault of `tests.support.faults.places` is done to a service whose clients go on asking and reporting, and send
again what is not answered. `faults` counts those that were done; `lost` acknowledged decisions and feedback that are
not in the log, or not where they were acknowledged; `double` those that are there more than once; `recovery_s_max` is
the longest time from a fault, or from when it was undone, until all that is to run ran, nothing was refused any more
and what was reported since was learned. `wrong` counts answers that nobody should get (500, 409), and all in which at
the end the log, what was learned, the batch over the log and the audit of all decisions differ.
"""

import argparse
import json
import re
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

from tests.bench.common import finish, folder, say
from tests.bench.table import digest, read_rows
from tests.support.faults.fault import Course, Fault, undergo
from tests.support.faults.places import FAULTS, PLACES
from tests.support.faults.proof import prove


@dataclass
class Done:
    """What all runs over the same code have come to, kept in the home: the list is long."""

    code: str
    seconds: dict[str, float] = field(default_factory=dict)
    """Of each fault until the service was back, the last time that it was done."""
    refused: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    double: int = 0
    wrong: int = 0

    @classmethod
    def read(cls, path: Path) -> "Done":
        """Return what there is of the code as it is now."""
        code = digest(read_rows().code["faults"])
        found = cls(**json.loads(path.read_text())) if path.exists() else cls(code)
        return found if found.code == code else cls(code)

    def add(self, courses: Sequence[Course], unproved: int) -> None:
        """Count those of one place, which was ended then."""
        self.seconds |= {course.fault.name: round(course.recovery_s, 1) for course in courses}
        self.refused |= {course.fault.name: len(course.refusals) for course in courses}
        self.lost += len({row for course in courses for row in course.lost})
        self.double += len({row for course in courses for row in course.double})
        self.wrong += unproved + sum(len(course.wrong) for course in courses)


def main() -> None:
    """Do them, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {' '.join(f.name for f in FAULTS)}")
    names = parser.parse_args().names
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    if unknown := set(names) - {fault.name for fault in FAULTS}:
        parser.error(f"no such fault: {' '.join(sorted(unknown))}")
    path = folder() / "faults.done.json"
    done = Done.read(path) if names else Done(digest(read_rows().code["faults"]))
    for place, faults in groupby((f for f in FAULTS if f.name in names or not names), key=lambda fault: fault.place):
        say(f"{place}:")
        done.add(*walk(place, faults))
        path.write_text(json.dumps(asdict(done)))
    figures = {
        "faults": len(done.seconds),
        "lost": done.lost,
        "double": done.double,
        "recovery_s_max": max(done.seconds.values()),
    }
    peers: dict[str, float] = {"wrong": done.wrong}
    peers |= {f"{name}_s": seconds for name, seconds in done.seconds.items()}
    peers |= {f"{name}_refused": refused for name, refused in done.refused.items()}
    finish("faults", figures, peers, seeds=1)


def walk(place: str, faults: Iterable[Fault]) -> tuple[list[Course], int]:
    """Do faults to a place; returns how they went, and how many differences there were at its end."""
    courses = list[Course]()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as home, PLACES[place](Path(home)) as made:
        with made.traffic.flowing():
            for fault in faults:
                courses.append(undergo(fault, made))
                report(courses[-1])
        unproved = prove(made)
        for line in unproved[:20]:
            say(f"  {line}")
        say(f"  {len(made.traffic.ledger.decisions):,} decisions and as many reports, {len(unproved)} differences")
    return courses, len(unproved)


def report(course: Course) -> None:
    """Say how one went."""
    fresh = max(course.freshness_s, default=0.0)
    back = f"back in {course.recovery_s:5.1f} s, {len(course.refusals):4} refused, {fresh:5.1f} s to learn"
    say(f"  {course.fault.name:24} {back}")
    kinds: dict[str, list[float]] = {}
    for at, what in course.refusals:
        kinds.setdefault(re.sub(r"[0-9a-f]{6,}|\d+-\d+-\d+", "*", what)[:110], []).append(at)
    for kind, times in kinds.items():
        say(f"    {len(times):4} from {times[0]:.1f} to {times[-1]:.1f} s: {kind}")
    for line in [*course.lost[:5], *course.double[:5], *course.wrong[:5]]:
        say(f"    {line}")


if __name__ == "__main__":
    main()
