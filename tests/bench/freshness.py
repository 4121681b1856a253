"""How soon feedback is learned: `python -m tests.bench.freshness [--seconds S]`.

200 requests a second at a constant rate to two replicas: of four requests one reports a click on the slate of half a
second before, the others ask for slates. An answer says up to which log position its policy has learned
(`learned_through`), a report's acknowledgement says its own position. `p50_s` and `p95_s` are quantiles, over the
reports, of the time from the acknowledgement until the first later answer of a policy that has learned it arrives;
`everywhere_p95_s` of that until no answer comes any more of one that has not.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.common import finish, plot, say
from tests.bench.service import shop
from tests.bench.service.processes import running
from tests.bench.service.steady import Answer, quantile_ms, steady

RATE = 200.0
BACK = 100  # requests from a decision to the report of it
POLICY = "lin_ucb"
RECOMMEND, FEEDBACK = "/v1/recommend", "/v1/feedback"


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.freshness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raycommend-bench-") as folder:
        market = shop.save_linear(Path(folder), POLICY)
        asked = shop.asks(market.users, market.items, number=2_000)

        def request(number: int) -> tuple[str, Any]:
            if number % 4 == 3 and number > BACK:
                return FEEDBACK, {"decision_id": f"bench-{number - BACK + 1}", "kind": "click"}
            user, items = asked[number % len(asked)]
            ask = {"decision_id": f"bench-{number}", "user_id": user, "candidates": items, "k": shop.K}
            return RECOMMEND, ask

        command = shop.ours(Path(folder), {"policies": {POLICY: 1}}, options.replicas)
        with running(command, "/healthz") as service:
            warm = int(3 * RATE)
            numbers = range(warm + int(options.seconds * RATE))
            asyncio.run(steady(service.url, request, numbers[:warm], RATE))
            answers = asyncio.run(steady(service.url, request, numbers[warm:], RATE))
    first, everywhere = waits(answers)
    failed = [answer for answer in answers if answer.status != 200]
    say(f"{len(first)} reports, {len(failed)} of {len(answers)} requests failed: {failed[:3]}")
    figures = {"p50_s": quantile(first, 0.5), "p95_s": quantile(first, 0.95)}
    peers = {
        "everywhere_p95_s": quantile(everywhere, 0.95),
        "max_s": quantile(first, 1.0),
        "failed": len(failed),
        "recommend_p99_ms": round(quantile_ms([a for a in answers if a.path == RECOMMEND], 0.99), 1),
    }
    shares = [float(share) for share in np.linspace(0, 1, 101)]
    curves = {
        name: ([quantile(of_name, share) for share in shares], shares)
        for name, of_name in (("a first answer", first), ("every answer", everywhere))
    }
    plot("freshness", curves, "seconds after the acknowledgement", "share of the reports that are learned")
    finish("freshness", figures, peers, seeds=1)


def waits(answers: Sequence[Answer]) -> tuple[list[float], list[float]]:
    """Return, of each report, the seconds until a first answer had learned it, and until the last that had not."""
    slates = sorted((a for a in answers if a.path == RECOMMEND and a.status == 200), key=lambda a: a.answered)
    times = np.array([answer.answered for answer in slates])
    through = np.array([answer.body["learned_through"] for answer in slates])
    first, everywhere = list[float](), list[float]()
    for report in answers:
        if report.path != FEEDBACK or report.status != 200:
            continue
        position = report.body["results"][0]["position"]
        later = times > report.answered
        learned, not_yet = times[later & (through >= position)], times[later & (through < position)]
        if not learned.size:  # acknowledged just before the end
            continue
        first.append(float(learned[0] - report.answered))
        everywhere.append(float(not_yet[-1] - report.answered) if not_yet.size else 0.0)
    return first, everywhere


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile in seconds."""
    return round(float(np.quantile(values, share)), 4)


if __name__ == "__main__":
    main()
