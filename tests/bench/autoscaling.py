"""Do replicas fit the load? `python -m tests.bench.autoscaling [--rate R]`.

A policy that waits 20 ms, so that replicas help whatever the number of cores, and one to six replicas as
`serve.autoscaling` wants them: by their requests, and by p99 of the last ten seconds as the clients see it, which a
stand-in for Prometheus says over HTTP. First one replica alone is asked at more and more requests a second:
`one_per_s` is the most of which p99 is under 250 ms. Then the load, of clients that know nothing of each other, goes
from half of that to five times in ten seconds, stays, and falls again.

`back_s` is the time from when the load begins to rise until p99 of what is answered, in windows of 5 s, is under the
bound for good; `refused_s` that until the last 429, `refused` their share in all requests. `failed` counts answers of
5xx and none at all. A replica takes ten requests at once, more are answered 429 (`max_ongoing_requests`,
`backpressure_config`).
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.bench.common import finish, folder, say
from tests.bench.service import shop
from tests.bench.service.rising import Course, Profile, drive, scaling
from tests.bench.service.steady import quantile_ms, timed
from tests.support.prometheus import Prometheus
from tests.support.scaled import Watched, watched

POLICY, BOUND_MS, MOST = "linear_thompson", 250.0, 6
RATES = (20.0, 25.0, 30.0, 35.0, 40.0)
_TRY_S = 12.0
_DELAYS = {"upscale_delay_s": 1, "downscale_delay_s": 10, "look_back_period_s": 5}


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.autoscaling", description=__doc__)
    parser.add_argument("--rate", type=float, help="that one replica can, if it is known")
    parser.add_argument("--top", type=float, default=90.0, help="seconds at five times that")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as temporary:
        home = Path(temporary)
        market = shop.save_linear(home, POLICY)
        visits = shop.asks(market.users, market.items, number=500)
        asked = [{"user_id": user, "candidates": items, "k": shop.K} for user, items in visits]
        one = options.rate or measure_one(home, asked)
        profile = Profile.around(one, before_s=15, rise_s=10, top_s=options.top, after_s=45)
        with service(home, MOST) as (watched_service, server):
            course = drive(watched_service, server, profile, asked, seed=1)
    risen, fallen = profile.points[1][0], profile.points[3][0]
    figures = {
        "failed": course.failures.total(),
        "back_s": course.back_within(BOUND_MS, risen, fallen),
        "refused_s": round(course.last_refusal(risen), 1),
        "refused": round(course.count(429) / len(course.answers), 4),
    }
    peers = {
        "one_per_s": one,
        "bound_ms": BOUND_MS,
        "requests": len(course.answers),
        "replicas_most": max(number for _, number in course.replicas),
        "replicas_end": course.replicas[-1][1],
        "top_p99_ms": round(course.p99_ms(fallen - 30, fallen) or 0.0, 1),
    }
    draw(course, profile)
    finish("autoscaling", figures, peers, seeds=1)


@contextmanager
def service(home: Path, most: int) -> Iterator[tuple[Watched, Prometheus]]:
    """Start the service with one replica, or as many as it needs up to a number."""
    options = {"max_replicas": most, "target_ongoing_requests": 1, **_DELAYS}
    refuse = {"status_code": 429, "retry_after_s": 1}
    queue: dict[str, Any] = {"max_ongoing_requests": 10, "max_queued_requests": 1, "backpressure_config": refuse}
    with (
        scaling(BOUND_MS, **options) as (server, config),
        watched(home, config, waiting=True, **queue) as running,
    ):
        yield running, server


def measure_one(home: Path, asked: list[Any]) -> float:
    """Return the most requests a second that one replica answers, all of them, with p99 under the bound."""
    found = RATES[0] / 2
    rng = np.random.default_rng(0)
    with service(home, 1) as (running, _):
        for rate in (RATES[0], *RATES):  # the first time is to warm it
            times = np.cumsum(rng.exponential(1 / rate, size=int(rate * _TRY_S))).tolist()
            answers = asyncio.run(
                timed(
                    running.url, lambda number: ("/v1/recommend", asked[number % len(asked)]), range(len(times)), times
                )
            )
            p99, refused = quantile_ms(answers, 0.99), sum(answer.status != 200 for answer in answers)
            say(f"one replica, {rate:.0f}/s: p99 {p99:.0f} ms, {refused} of {len(answers)} not answered")
            if p99 > BOUND_MS or refused:
                break
            found = rate
    return found


def draw(course: Course, profile: Profile) -> None:
    """Save load and answers, replicas, and p99 over time as `bench/autoscaling.png` in the home."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    load, replicas, latency = figure.subplots(3, sharex=True)
    ends = np.arange(0.0, profile.seconds + 1, 2.0)
    answered = np.array([answer.answered - course.begin for answer in course.answers])
    status = np.array([answer.status for answer in course.answers])
    load.plot(ends, [profile.rate(end) for end in ends.tolist()], label="load", color="grey")
    for code, label in ((200, "answered"), (429, "refused, 429")):
        load.plot(ends[1:], np.histogram(answered[status == code], ends)[0] / 2.0, label=label)
    load.set_ylabel("requests a second")
    load.legend()
    times, numbers = zip(*course.replicas, strict=True)
    replicas.step(times, numbers, where="post")
    replicas.set_ylabel("replicas")
    ends5, p99 = zip(*course.windows(profile.seconds), strict=True)
    latency.plot(ends5, [np.nan if value is None else value for value in p99], label="p99 of 5 s")
    latency.axhline(BOUND_MS, linestyle="--", color="grey", label="its bound")
    latency.set(ylabel="ms", xlabel="seconds", ylim=(0, None))
    latency.legend()
    for axes in (load, replicas, latency):
        axes.grid(alpha=0.3)
    figure.savefig(folder() / "autoscaling.png", dpi=120)


if __name__ == "__main__":
    main()
