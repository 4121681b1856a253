"""What a decision that waits costs, and how fast they are folded: `python -m tests.bench.waiting [--decisions N]`.

`bytes_a_decision` is by how much the learner's resident memory grows while it reads 200,000 decisions of ten items with
features, whose wait windows stay open, under `described`. `speed_ratio` is how many decisions with feedback a fresh
fold under `described` learns in a second of processor time, over what the learner did when it kept all that waits in
memory: the code of commit 70b8d9d, taken out of git into a folder of its own, in turns with this one (medians). Where
git does not have it, there is nothing to compare with, and the ratio is 0. The peers have both speeds, and the ratio
under a linear policy, where reading counts for more.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.common import finish, say

BEFORE = "70b8d9d"
ROOT = Path(__file__).parents[2]
FOLD = Path(__file__).with_name("waiting_fold.py")


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.waiting", description=__doc__)
    parser.add_argument("--decisions", type=int, default=200_000, help="that wait; default: %(default)s")
    parser.add_argument("--folded", type=int, default=3_000, help="a run of described; default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="of each; default: %(default)s")
    options = parser.parse_args()
    taken = measured(ROOT, "bytes", str(options.decisions))
    say(f"{options.decisions:,} decisions wait: {taken:.1f} bytes each")
    peers = dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        before = checked_out(BEFORE, Path(folder))
        for policy, folded in (("described", options.folded), ("lin_ucb", 5 * options.folded)):
            now_and_before = compared(before, policy, folded, options.runs)
            peers |= {f"{policy}_per_s": now_and_before[0], f"{policy}_before_per_s": now_and_before[1]}
    ratios = {
        policy: round(peers[f"{policy}_per_s"] / slow, 3) if (slow := peers[f"{policy}_before_per_s"]) else 0.0
        for policy in ("described", "lin_ucb")
    }
    figures = {"bytes_a_decision": round(taken, 1), "speed_ratio": ratios["described"]}
    finish("waiting", figures, peers | {"lin_ucb_ratio": ratios["lin_ucb"]}, seeds=1)


def compared(before: Path | None, policy: str, folded: int, runs: int) -> tuple[float, float]:
    """Return the median speeds of this code and of what was before, 0 where that is not to be had."""
    ours, theirs = list[float](), [0.0] if before is None else list[float]()
    for _ in range(runs):
        ours.append(measured(ROOT, "speed", policy, str(folded)))
        if before is not None:
            theirs.append(measured(before, "speed", policy, str(folded)))
        say(f"{policy}: {ours[-1]:,.0f} decisions a second, before {theirs[-1]:,.0f}")
    return round(median(ours), 1), round(median(theirs), 1)


def measured(code: Path, *arguments: str) -> float:
    """Run `waiting_fold` in a process of its own on some code, and return the number that it prints."""
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        done = subprocess.run(
            [sys.executable, str(FOLD), *arguments, folder],
            check=True,
            capture_output=True,
            text=True,
            cwd=code,
            env=os.environ | {"PYTHONPATH": str(code)},
        )
    return float(done.stdout.split()[-1])


def checked_out(commit: str, folder: Path) -> Path | None:
    """Write a commit's files to a folder, and return it; None if git does not have it."""
    done = subprocess.run(["git", "archive", commit], check=False, capture_output=True, cwd=ROOT)
    if done.returncode:
        say(f"no commit {commit} to compare with: {done.stderr.decode().strip()}")
        return None
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


if __name__ == "__main__":
    main()
