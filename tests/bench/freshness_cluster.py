"""How soon feedback is learned on a cluster, whatever dies: `python -m tests.bench.freshness_cluster [--seconds S]`.

Three hosts, the learner and a replica on different ones, the log in PostgreSQL with a synchronous standby; 200 requests
a second, half of them slates and half reports of a click. `p95_s` is the 95 % quantile, over the reports, of the time
from the acknowledgement until the first later answer of a policy that has learned it, while nothing goes wrong.
`worst_s` is the longest through the loss of a replica, of an HAProxy, of an env runner of a training, of a host
without the learner; `worst_learner_s` that through the loss of the learner, of its host, of the head, and of
PostgreSQL, whose standby takes over.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from tests.bench.common import finish, say
from tests.bench.faults import report
from tests.support.faults.cluster import OF_FRESHNESS, rocksdb_cluster
from tests.support.faults.fault import undergo

RATE, CLIENTS, WARM_S = 200.0, 32, 10.0


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.freshness_cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder, rocksdb_cluster(Path(folder)) as place:
        traffic = place.traffic
        traffic.per_second, traffic.clients = RATE, CLIENTS
        with traffic.flowing():
            traffic.wait_until_back(perf_counter(), place.is_whole, 120)
            sleep(WARM_S)
            began = perf_counter()
            sleep(options.seconds)
            ended = perf_counter()
            sleep(WARM_S)
            fresh = traffic.freshness_s(began, ended)
            asked = sum(began <= at < ended for at, _ in [*traffic.answers, *traffic.reports])
            p95_s = float(np.quantile(fresh, 0.95))
            say(f"{asked / options.seconds:.0f} requests/s, learned after {p95_s:.3f} s in 95 of 100")
            courses = [undergo(fault, place) for fault in OF_FRESHNESS]
    for course in courses:
        report(course)
    worst = {course.fault.name: max(course.freshness_s) for course in courses}
    figures = {
        "p95_s": round(p95_s, 3),
        "worst_s": round(max(worst[course.fault.name] for course in courses if not course.fault.of_learner), 1),
        "worst_learner_s": round(max(worst[course.fault.name] for course in courses if course.fault.of_learner), 1),
    }
    peers = {f"{name}_s": round(seconds, 1) for name, seconds in worst.items()}
    finish("freshness_cluster", figures, peers | {"requests_s": round(asked / options.seconds, 1)}, seeds=1)


if __name__ == "__main__":
    main()
