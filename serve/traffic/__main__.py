"""`python -m serve.traffic`: simulated users who drive a deployment over HTTP."""

import argparse
import asyncio
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from pydantic_core import to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from threadpoolctl import threadpool_limits

from data.command import AMISS, DONE, INTERRUPTED, argument_parser, command, complain, seconds, whole
from data.errors import DataError
from data.settings import Settings
from serve.traffic.client import Client, UnansweredError, connect
from serve.traffic.disorder import Delay, Disorder, Shift
from serve.traffic.driver import Driver, Plan
from serve.traffic.recording import record
from serve.traffic.simulators import SHORT, find_people
from serve.traffic.summary import draw_rewards, summarise
from serve.traffic.visits import People

KEY = "RAYCOMMEND_API_KEY"
_WINDOW = 400  # visits that a point of the picture is the mean of


@command("serve.traffic")
def main(arguments: Sequence[str]) -> int:
    """Run the command: a JSON object of what came of it on standard output."""
    options = _parse(arguments)
    with threadpool_limits(1, "blas"):
        people = find_people(options.simulator, options.options, options.users, Settings())
        plan = _plan(options)
        if options.out:
            print(to_json(record(people, plan, options.out)).decode())
            return DONE
        return _drive(options, people, plan)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argument_parser("serve.traffic", __doc__)
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--url", help="of the service, such as http://127.0.0.1:8000")
    to.add_argument(
        "--out", type=Path, help="ask nobody: write what uniform draws would have logged, as DSJSON (data.dsjson)"
    )
    parser.add_argument("--key", help=f"API key of the role node; better in the environment, as {KEY}")
    parser.add_argument(
        "--simulator", default="shop", help=f"{', '.join(SHORT)}, or your own as module:Class (default: %(default)s)"
    )
    parser.add_argument("--options", type=_options, default={}, help="of the simulator, by name, as a JSON object")
    parser.add_argument("--users", type=whole(1), default=1_000, help="who visit (default: %(default)s)")
    parser.add_argument("--visits", type=whole(1), default=3_000, help="in all (default: %(default)s)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", type=_rate, default=50.0, help="visits a second, come what may (default: %(default)s)")
    pace.add_argument("--clients", type=whole(1), help="instead of a rate: so many, each as fast as it is answered")
    parser.add_argument("--policy", action="append", default=[], help="ask this one; of several, one at random")
    parser.add_argument("--seed", type=whole(0), default=0, help="the same one sends the same (default: %(default)s)")
    parser.add_argument(
        "--name", default="traffic", help="what all ids begin with; with another one nothing was sent before"
    )
    parser.add_argument(
        "--delay",
        default="fixed:0",
        help="of reports: fixed:S, uniform:LOW:HIGH, exponential:MEAN, lognormal:MEDIAN:SIGMA (default: %(default)s)",
    )
    parser.add_argument("--late", type=_share, default=0.0, metavar="SHARE", help="of reports that come later still,")
    parser.add_argument("--late-by", type=seconds, default=0.0, metavar="S", help="by so many seconds")
    parser.add_argument("--duplicates", type=_share, default=0.0, metavar="SHARE", help="of reports that come twice")
    parser.add_argument("--lost", type=_share, default=0.0, metavar="SHARE", help="of reports that never come")
    parser.add_argument("--shuffled", type=_share, default=0.0, metavar="SHARE", help="that others may overtake,")
    parser.add_argument("--shuffled-within", type=seconds, default=5.0, metavar="S", help="of so many seconds")
    parser.add_argument(
        "--shift",
        action="append",
        default=[],
        metavar="VISIT:SHARE",
        help="from a visit on this share of the items change places in what users like; may be given again",
    )
    parser.add_argument(
        "--oracle", action="store_true", help="report also what the best slate earns: the console's regret is beside it"
    )
    parser.add_argument("--attempts", type=whole(1), default=5, help="of a request, by the same ids (default: 5)")
    parser.add_argument("--picture", type=Path, help="save the reward over the visits, as PNG, SVG or PDF")
    return parser.parse_args(arguments)


def _plan(options: argparse.Namespace) -> Plan:
    disorder = Disorder(
        delay=Delay.parse(options.delay),
        late=options.late,
        late_by_s=options.late_by,
        duplicates=options.duplicates,
        lost=options.lost,
        shuffled=options.shuffled,
        shuffled_within_s=options.shuffled_within,
    )
    return Plan(
        visits=options.visits,
        rate=None if options.clients else options.rate,
        clients=options.clients or 1,
        seed=options.seed,
        name=options.name,
        policies=options.policy,
        disorder=disorder,
        shifts=[Shift.parse(text) for text in options.shift],
        oracle=options.oracle,
    )


def _drive(options: argparse.Namespace, people: People, plan: Plan) -> int:
    key, url = options.key or os.environ.get(KEY), options.url.rstrip("/")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    drivers, interrupted = list[tuple[Driver, Client]](), False
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("visits", total=plan.visits)

        async def run() -> None:
            async with connect({"Authorization": f"Bearer {key}"} if key else {}) as session:
                client = Client(session, lambda: [url], attempts=options.attempts)
                await client.get("/healthz")  # nobody there is said at once
                client.requests.clear()
                client.latencies.clear()
                driver = Driver(people, client, plan, on_visit=lambda: progress.advance(task))
                drivers.append((driver, client))
                await driver.drive()

        try:
            asyncio.run(run())
        except UnansweredError as error:
            raise DataError(f"{url}{error}") from error
        except KeyboardInterrupt:
            interrupted = True
    if not drivers:
        return INTERRUPTED
    [(driver, client)] = drivers
    return _report(options, driver, client, people.ceilings(), interrupted)


def _report(
    options: argparse.Namespace, driver: Driver, client: Client, ceilings: dict[str, float], interrupted: bool
) -> int:
    traffic = driver.traffic
    summary = summarise(traffic, client, ceilings, perf_counter() - traffic.begun)
    for example in traffic.examples:
        complain("serve.traffic", example)
    if options.picture and traffic.visits:
        rewards = [done.response.reward for done in sorted(traffic.visits, key=lambda done: done.number)]
        title = f"{options.simulator}: {len(rewards):,} visits over HTTP"
        draw_rewards({"reward": rewards}, ceilings, options.picture, min(_WINDOW, len(rewards)), title)
    print(to_json(summary).decode())
    if interrupted:
        return INTERRUPTED
    return AMISS if traffic.failures else DONE


def _options(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        if isinstance(given := json.loads(text), dict):
            return given
    raise argparse.ArgumentTypeError(f"expected a JSON object, got {text!r}")


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0.0 <= (number := float(text)) <= 1.0:
            return number
    raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")


def _rate(text: str) -> float:
    with suppress(ValueError):
        if 0.0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"expected visits a second, above 0, got {text!r}")


if __name__ == "__main__":
    sys.exit(main())
