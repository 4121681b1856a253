"""The same with a transformer: `python -m tests.bench.serving_transformer [--seconds S] [--turns N]`.

A Q network of the default size over a catalogue of 200 items, histories of 20 entries that each customer has from the
beginning, slates of 10 among 50 candidates. As in `tests.bench.serving`, the services take turns.

ours             one replica behind HAProxy: the graph of the network in ONNX Runtime, the learner keeping the histories
uvicorn_torch    `uvicorn` with one worker and a FastAPI route: the network in torch on one thread with its tables
                 computed once, the same write, the same histories, kept in the process
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.service import shop
from tests.bench.service.wrk import need_wrk
from tests.bench.serving import CONNECTIONS, JUDGED, report, services, take_turns

NAMES = ("ours", "uvicorn_torch")


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving_transformer", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each service at each number of connections")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--connections", type=int, action="append", help=f"default: {CONNECTIONS}")
    options = parser.parse_args()
    need_wrk()
    connections = options.connections or CONNECTIONS
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        place = Path(folder)
        with services(place, NAMES, shop.save_transformer) as up:
            turns = take_turns(place, up, connections, options.seconds, options.turns)
    figures = {}
    if JUDGED in connections:
        ratio = median(turn["ours"][JUDGED].requests_s / turn["uvicorn_torch"][JUDGED].requests_s for turn in turns)
        figures["ratio_uvicorn_torch"] = round(ratio, 3)
    report("serving_transformer", turns, figures)


if __name__ == "__main__":
    main()
