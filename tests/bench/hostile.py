"""Nothing that anyone sends may stop the service: `python -m tests.bench.hostile [--probes N] [--checkout DIR]`.

Seeded probes of many kinds (`tests.bench.hostility.kinds`: odd features, numbers, ids, retries, bodies; and imported
files) go to a service with two replicas, three policies and the Personalizer loop, which is restarted in the middle.
Each second somebody ordinary asks, reports and waits until it is learned: 20 s, and in the first 30 s after a start,
while the log is learned anew, until 20 s after them. `stopped` counts of whom that failed;
`lost` what was acknowledged and is not in the log at the end; `five_hundreds` answers of 500, 502 and 504, any 503
without Retry-After or later than 30 s after the restart, and requests without an answer.

With `--checkout` another checkout's service is asked the same, until it has stopped for somebody ordinary.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

from tests.bench.common import finish, say
from tests.bench.hostility.imports import KIND, bring_in, missing
from tests.bench.hostility.kinds import KINDS
from tests.bench.hostility.load import Tally, probe
from tests.bench.hostility.ordinary import Ordinary
from tests.bench.hostility.usual import POLICIES
from tests.bench.service.processes import running
from tests.bench.service.shop import ours
from tests.support.ports import free_port

CLIENTS = 8
IMPORTED = 500  # lines, before the restart and after it
_CONFIG: dict[str, object] = {
    "policies": dict.fromkeys(POLICIES, 1.0),
    "learn_from": "all",
    "reward": {"wait_s": 20.0},  # so that windows close meanwhile
    "access_log": False,
}


def main() -> None:
    """Probe, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile", description=__doc__)
    parser.add_argument("--probes", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkout", type=Path, help="of another version, asked until it stops")
    options = parser.parse_args()
    checkout = (options.checkout or Path.cwd()).resolve()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        home, tally = Path(folder), Tally()
        train(home, checkout)
        began = monotonic()
        ordinary = Ordinary(f"http://127.0.0.1:{free_port()}")
        halves = (range(options.probes // 2), range(options.probes // 2, options.probes))
        for turn, numbers in enumerate(halves):
            command = ours(home, _CONFIG, replicas=2)
            port = int(ordinary.url.rpartition(":")[2])
            with running(command, "/healthz", port=port, checkout=checkout):
                tally.up_since = ordinary.up_since = monotonic()
                began = began if turn else tally.up_since
                say(f"{'restarted' if turn else 'started'}; probes {numbers.start:,} to {numbers.stop:,}")
                asyncio.run(
                    attack(ordinary, tally, numbers, options.seed, turn, home, checkout, bool(options.checkout))
                )
            if ordinary.failures and options.checkout:
                break
        lost = [] if options.checkout else missing(home, tally.promised | ordinary.promised)
    report(tally, ordinary, lost, began)


def train(home: Path, checkout: Path) -> None:
    """Train the policies that are served, by the checkout's own command."""
    for policy in POLICIES:
        what = (
            ["--source", "nothing"]
            if policy == "described"
            else ["rl/experiments/generated_shop.toml", "--decisions", "500"]
        )
        command = [sys.executable, "-m", "rl.train", *what, "--policy.kind", policy, "--name", policy]
        environment = {**os.environ, "RAYCOMMEND_HOME": str(home), "PYTHONPATH": str(checkout)}
        subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)


async def attack(
    ordinary: Ordinary, tally: Tally, numbers: range, seed: int, turn: int, home: Path, checkout: Path, to_the_end: bool
) -> None:
    """Send probes and a file while ordinary clients ask; `to_the_end`: no longer than until one of these fails."""
    await ordinary.stock()
    asking = asyncio.create_task(ordinary.run())
    work = asyncio.gather(
        probe(ordinary.url, seed, counted(numbers), tally, CLIENTS),
        bring_in(home, checkout, seed, turn, IMPORTED, tally),
    )
    while not work.done() and not (to_the_end and ordinary.failures):
        await asyncio.wait([work], timeout=1.0)
    if not work.done():
        work.cancel()
    with suppress(asyncio.CancelledError):
        await work
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


def counted(numbers: range) -> Iterator[int]:
    """Yield numbers, and say how far it is."""
    began = monotonic()
    for number in numbers:
        if number % 5_000 == 0 and number > numbers.start:
            say(f"  {number:,} probes, {(number - numbers.start) / (monotonic() - began):.0f}/s")
        yield number


def report(tally: Tally, ordinary: Ordinary, lost: list[tuple[str, str]], began: float) -> None:
    """Say what happened, and print the line of figures."""
    for kind in (*KINDS, KIND):
        taken, refused, busy = (counts[kind] for counts in (tally.accepted, tally.refused, tally.busy))
        say(f"  {kind:22} {taken:7,} accepted {refused:7,} refused {busy:6,} busy")
    for what in [*tally.faults[:20], *(what for _, what in ordinary.failures[:20]), *map(str, lost[:20])]:
        say(f"  {what}")
    figures = {
        "probes": tally.probes,
        "stopped": len(ordinary.failures),
        "lost": len(lost),
        "five_hundreds": len(tally.faults),
    }
    peers: dict[str, float] = {"kinds": len(KINDS) + 1, "ordinary": ordinary.rounds, "promised": len(tally.promised)}
    peers |= {f"{kind}_accepted": tally.accepted[kind] for kind in (*KINDS, KIND)}
    peers |= {f"{kind}_refused": tally.refused[kind] for kind in (*KINDS, KIND)}
    if ordinary.failures:
        peers["stopped_after_s"] = round(ordinary.failures[0][0] - began, 1)
    finish("hostile", figures, peers, seeds=1)


if __name__ == "__main__":
    main()
