"""How fast the service answers beside its peers: `python -m tests.bench.serving [--seconds S] [--turns N]`.

Everything answers a slate of 10 among 50 candidates with one and the same linear policy. Load is wrk's: kept-alive
connections, a thread, the same bodies in turn, many customers. Ours is compared with one peer after the other: the two
are up at the same time, with no third that takes what an idle Ray takes, and take turns, the one to begin alternating.
A ratio is the median of the ratios within each turn, a number of the table the median of all turns'.

ours                one replica behind HAProxy, each decision committed before it is answered, the learner following
uvicorn_committed   `uvicorn` with one worker and a FastAPI route: the same recommender, models and store, and the same
                    group commit, in a thread of that worker
uvicorn_bare        the same without the write
mlflow              `mlflow models serve` of the policy as a pyfunc model: no write
default_proxy       ours behind Serve's own proxy, with Serve's defaults
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import mlflow

from tests.bench.common import finish, plot, say
from tests.bench.service import plain, shop
from tests.bench.service.processes import Service, running
from tests.bench.service.wrk import Load, load, need_wrk

CONNECTIONS = (1, 16, 64)
JUDGED = 16
POLICY = "lin_ucb"
PATHS = {"mlflow": "/invocations"}
OURS = "ours"
PEERS = ("uvicorn_committed", "uvicorn_bare", "mlflow", "default_proxy")
Turn = dict[str, dict[int, Load]]


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each service at each number of connections")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", action="append", choices=PEERS, help="leave other peers out")
    parser.add_argument("--connections", type=int, action="append", help=f"default: {CONNECTIONS}")
    options = parser.parse_args()
    need_wrk()
    connections = options.connections or CONNECTIONS
    turns: list[Turn] = []
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary:
        folder = Path(temporary)
        with services(folder, [OURS]) as ours:
            for peer in options.only or PEERS:
                with services(folder, [peer]) as other:
                    turns += take_turns(folder, {**ours, **other}, connections, options.seconds, options.turns)
    report("serving", turns, figures(turns))


@contextmanager
def services(
    folder: Path, names: Sequence[str], prepare: Callable[[Path, str], tuple[shop.Names, shop.Names]] = shop.prepare
) -> Iterator[dict[str, Service]]:
    """Give each service a home with a policy, and start those that are named."""
    with ExitStack() as stack:
        up: dict[str, Service] = {}
        for name in names:
            users, items = prepare(folder / name, POLICY)
            asked = shop.asks(users, items, number=2_000)
            shop.write_bodies(folder / f"{name}.jsonl", asked, "mlflow" if name == "mlflow" else "v1")
            command, health, environment = how_to_start(name, folder / name)
            up[name] = stack.enter_context(running(command, health, environment))
            say(f"{name} is up at {up[name].url}")
        yield up


def how_to_start(name: str, home: Path) -> tuple[list[str], str, dict[str, str]]:
    """Return command, path of the health check, and environment of a service."""
    if name in (OURS, "default_proxy"):
        return shop.ours(home, {"policies": {POLICY: 1}}, 1, name == "default_proxy"), "/healthz", {}
    if name == "mlflow":
        model = home / "model"
        scorer = Path(plain.__file__).with_name("scorer.py")
        artefacts = {"policy": str(home / "policies" / POLICY)}
        mlflow.pyfunc.save_model(model, python_model=scorer, artifacts=artefacts, pip_requirements=[])
        command = ["mlflow", "models", "serve", "-m", str(model), "-p", "{port}", "--env-manager", "local"]
        return command, "/ping", {}
    environment = {plain.HOME: str(home), plain.POLICY: POLICY, plain.COMMIT: str(int(name != "uvicorn_bare"))}
    command = ["{python}", "-m", "uvicorn", "--factory", "tests.bench.service.plain:app", "--port", "{port}"]
    return [*command, "--no-access-log"], "/healthz", environment


def take_turns(
    folder: Path, up: Mapping[str, Service], connections: Sequence[int], seconds: float, number: int
) -> list[Turn]:
    """Load the services in turns, after a turn that does not count."""
    for name, service in up.items():
        turn(folder, name, service, connections, 2.0)
    return [
        {name: turn(folder, name, up[name], connections, seconds) for name in rotated(list(up), at)}
        for at in range(number)
    ]


def turn(folder: Path, name: str, service: Service, connections: Sequence[int], seconds: float) -> dict[int, Load]:
    """Load a service with each number of connections."""
    url, result = service.url + PATHS.get(name, "/v1/recommend"), {}
    for number in connections:
        before = service.cpu_s()
        result[number] = load(url, folder / f"{name}.jsonl", number, seconds)
        used = (service.cpu_s() - before) / max(result[number].requests, 1)
        say(f"{name:18} {number:3}: {result[number].requests_s:7.1f}/s, {used * 1e6:.0f} CPU us each, {result[number]}")
    return result


def rotated(names: Sequence[str], number: int) -> list[str]:
    """Return the names, beginning with another one each time."""
    at = number % len(names)
    return [*names[at:], *names[:at]]


def figures(turns: Sequence[Turn]) -> dict[str, float]:
    """Return our requests a second over each peer's, and our p99 over plain uvicorn's, at 16 connections."""

    def ratio(peer: str, what: str) -> float:
        pairs = [(t[OURS][JUDGED], t[peer][JUDGED]) for t in turns if peer in t]
        return median(float(getattr(ours, what) / getattr(other, what)) for ours, other in pairs)

    if JUDGED not in turns[0][OURS]:
        return {}
    peers = dict.fromkeys(name for turn in turns for name in turn if name != OURS)
    found = {f"ratio_{name}": round(ratio(name, "requests_s"), 3) for name in peers}
    if "uvicorn_committed" in peers:
        found["p99_ratio_uvicorn_committed"] = round(ratio("uvicorn_committed", "p99_ms"), 3)
    return found


def table(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the median of each number, and the sum of errors, by service and connections."""
    cells: dict[str, float] = {}
    for name in dict.fromkeys(name for turn in turns for name in turn):
        for number in next(iter(turns[0].values())):
            of_cell = [t[name][number] for t in turns if name in t]
            for what in ("requests_s", "p50_ms", "p95_ms", "p99_ms"):
                cells[f"{name}_{what}_{number}"] = round(median(getattr(cell, what) for cell in of_cell), 2)
            cells[f"{name}_errors_{number}"] = sum(cell.errors for cell in of_cell)
    return cells


def report(bench: str, turns: Sequence[Turn], found: Mapping[str, float]) -> None:
    """Draw requests a second over connections, and print the line of figures."""
    cells = table(turns)
    connections = list(next(iter(turns[0].values())))
    curves = {
        name: (connections, [cells[f"{name}_requests_s_{number}"] for number in connections])
        for name in dict.fromkeys(name for turn in turns for name in turn)
    }
    plot(bench, curves, "connections", "requests a second")
    finish(bench, dict(found), cells, seeds=len(turns))


if __name__ == "__main__":
    main()
