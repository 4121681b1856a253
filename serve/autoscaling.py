"""How many replicas Ray Serve's controller wants: by their requests and, where there is a Prometheus, by their p99.

In a deployment's `autoscaling_config`; without `policy_kwargs` it is Serve's own policy by requests alone:

    policy:
      policy_function: serve.autoscaling:Replicas
      policy_kwargs: {prometheus: "http://prometheus:9090", p99_ms: 100}

Serve ships this module to its controller by value, so it uses no other of ours.
"""

import logging
import math
import weakref
from time import monotonic
from typing import Any, Final

from ray.serve.autoscaling_policy import PrometheusQueryMixin, PrometheusVector, replica_queue_length_autoscaling_policy
from ray.serve.config import AutoscalingContext

WINDOW_S: Final = 60.0
"""What p99 is of: the requests of the last so many seconds. Two of Prometheus' scrapes must lie in it."""
QUERY: Final = (
    "histogram_quantile(0.99, sum by (le) (rate(ray_serve_http_request_latency_ms_bucket{"
    f'application="APPLICATION",status_code="200",route!="/v1/stream"}}[{WINDOW_S:.0f}s])))'
)
"""In milliseconds, as the replicas count it; streams last as long as their clients like."""
EASY: Final = 0.7
"""Share of the bound below which p99 keeps no replica."""

_MOST: Final = 2.0  # times as many replicas at once, however long answers take
_SILENT_S: Final = 15.0  # in which the first answer may come
_FULL_SINCE: Final = "raycommend_full_since"

log = logging.getLogger("ray.serve")


def count_replicas(
    ctx: AutoscalingContext, p99_ms: float | None, bound_ms: float | None
) -> tuple[float, dict[str, Any]]:
    """Return how many replicas are wanted, before Serve's own bounds and delays, and what to remember.

    By requests: those that run, times the mean requests of each over `target_ongoing_requests`. By p99: those that run,
    times p99 over its bound, at most twice as many, once all that are wanted have run for the whole of its window
    (before, it says how it was with fewer); and no fewer than run while it is above `EASY` of the bound. The larger
    number counts.

    Args:
        ctx: what Serve knows of the deployment.
        p99_ms: 99th percentile of the last `WINDOW_S` seconds; None: not known, or nobody asked.
        bound_ms: which it is to stay under; None: there is none.
    """
    by_requests, _ = replica_queue_length_autoscaling_policy(ctx)
    running, now = ctx.current_num_replicas, float(ctx.current_time or 0.0)
    if running == 0 or running < ctx.target_num_replicas:
        return by_requests, {}
    since = float(ctx.policy_state.get(_FULL_SINCE, now))
    state = {_FULL_SINCE: since}
    if p99_ms is None or bound_ms is None or p99_ms <= EASY * bound_ms:
        return by_requests, state
    settled = now - since >= WINDOW_S
    by_p99 = running * min(max(p99_ms / bound_ms, 1.0), _MOST) if settled else running
    return max(by_requests, by_p99), state


class Replicas(PrometheusQueryMixin):
    """The policy, as Serve makes one for a deployment.

    Args:
        prometheus: URL of the Prometheus that scrapes Ray's metrics; None: by requests alone.
        p99_ms: bound of the 99th percentile of the time to an answer; given with the URL, or not at all.
        application: of Serve, whose requests count.
        every_s: how often it is asked, in a thread of its own.

    Raises:
        ValueError: one of URL and bound is missing, or the bound is not positive.
    """

    def __init__(
        self,
        prometheus: str | None = None,
        p99_ms: float | None = None,
        application: str = "raycommend",
        every_s: float = 5.0,
    ) -> None:
        if (prometheus is None) != (p99_ms is None):
            raise ValueError(f"prometheus and p99_ms go together, got {prometheus!r} and {p99_ms!r}")
        if p99_ms is not None and not (math.isfinite(p99_ms) and p99_ms > 0):
            raise ValueError(f"p99_ms must be positive, got {p99_ms!r}")
        self._bound_ms, self._address, self._query = p99_ms, prometheus, QUERY.replace("APPLICATION", application)
        self._answers, self._began = True, monotonic()
        # Ray's own variable for a Prometheus, RAY_PROMETHEUS_HOST, would count where none is named.
        queries = [self._query] if prometheus else []
        super().__init__(prometheus_address=prometheus, prometheus_queries=queries, fetch_interval_s=every_s)
        if prometheus:
            repeats = Repeats(self._query)
            log.addFilter(repeats)
            weakref.finalize(self, log.removeFilter, repeats)

    def __call__(self, ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """Return how many replicas are wanted, and what to remember; see `count_replicas`."""
        return count_replicas(ctx, self._read_p99() if self._address else None, self._bound_ms)

    def _read_p99(self) -> float | None:
        """Return the newest p99 in ms; None: nothing was asked, or Prometheus does not answer, which is said once."""
        results = self.prometheus_results
        if results is None:
            if self._answers and monotonic() - self._began > _SILENT_S:
                self._answers = False
                log.warning("Prometheus at %s does not answer: replicas are scaled by requests alone", self._address)
            return None
        if not self._answers:
            self._answers = True
            log.warning("Prometheus at %s answers again: replicas are scaled by p99 too", self._address)
        found = results[self._query]
        if isinstance(found, PrometheusVector):  # without a sample where nobody has asked
            return found.samples[0].value if found.samples else None
        return float(found.value)


class Repeats:
    """Keeps out of Serve's log what Ray says of a query each time that it fails, unless it is another failure.

    Args:
        query: its PromQL.
    """

    def __init__(self, query: str) -> None:
        self._query, self._said = query, ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line is to be kept."""
        if not isinstance(record.args, tuple) or record.args[:1] != (self._query,):
            return True
        before, self._said = self._said, record.getMessage()
        return self._said != before
