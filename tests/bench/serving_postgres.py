"""How fast the service answers on PostgreSQL beside SQLite: `python -m tests.bench.serving_postgres`.

The same service, policy and load as `tests.bench.serving`, once with its log in SQLite and once in a PostgreSQL of its
own, on the same cores. The two take turns. Needs the Debian packages `postgresql` and `wrk`.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.bench.common import say
from tests.bench.service import shop
from tests.bench.service.processes import running
from tests.bench.service.wrk import need_wrk
from tests.bench.serving import JUDGED, POLICY, report, take_turns
from tests.support.postgres import cluster

SQLITE, POSTGRES = "sqlite", "postgres"


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving_postgres", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each service in a turn")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    need_wrk()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary, ExitStack() as stack:
        folder, up = Path(temporary), {}
        server = stack.enter_context(cluster())
        for name in (SQLITE, POSTGRES):
            users, items = shop.prepare(folder / name, POLICY)
            shop.write_bodies(folder / f"{name}.jsonl", shop.asks(users, items, number=2_000), "v1")
            where = {"RAYCOMMEND_STORE": server.new_database()} if name == POSTGRES else {}
            command = shop.ours(folder / name, {"policies": {POLICY: 1}}, 1)
            up[name] = stack.enter_context(running(command, "/healthz", where))
            say(f"{name} is up at {up[name].url}")
        turns = take_turns(folder, up, [JUDGED], options.seconds, options.turns)
    if failed := sum(load[JUDGED].errors for turn in turns for load in turn.values()):
        raise RuntimeError(f"{failed} requests failed")
    ratio = median(turn[POSTGRES][JUDGED].requests_s / turn[SQLITE][JUDGED].requests_s for turn in turns)
    report("serving_postgres", turns, {"ratio_sqlite": round(ratio, 3)})


if __name__ == "__main__":
    main()
