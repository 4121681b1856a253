"""Every metric of the service, in one place: its name, kind, labels and meaning.

Ray puts `ray_` before each name, `_total` behind a counter's, and adds labels of its own (the node's address, the
session, the process). Names follow Prometheus: base units, one meaning each. Label values come from the configuration,
from the declarations of nodes and from this code, never from what a client sends: whatever else is `other`.
"""

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "raycommend_"
REPLICA: Final = "replica"
"""Label of every metric: which process of the service counts."""

Kind = Literal["counter", "gauge", "histogram"]

_FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
_SLOW: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric. Two are never equal, so that it is looked up quickly."""

    name: str
    """Without prefix, and of a counter without `_total`."""
    kind: Kind
    says: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram."""

    @property
    def exported(self) -> str:
        """The name that Prometheus knows; of a histogram without `_bucket`, `_count` and `_sum`."""
        return f"ray_{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def _counter(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, "counter", says, labels)


def _gauge(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, "gauge", says, labels)


def _histogram(name: str, says: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", says, labels, buckets)


EVENTS = _counter("events", "Rows of input nodes, by what became of them.", "node", "status")
REJECTS = _counter("rejects", "Rows of input nodes that broke a rule, by the first rule.", "node", "rule")
PREPROCESSING = _histogram(
    "preprocessing_seconds", "Time to check and convert the rows of one request of an input node.", _FAST, "node"
)
LAST_SEEN = _gauge("input_node_last_seen_timestamp_seconds", "When the newest row of an input node was logged.", "node")

DECISIONS = _counter(
    "decisions", "Decisions that were logged and answered, by output node.", "loop", "node", "policy", "mode"
)
DECIDE = _histogram("decide_seconds", "Time of the policy to make one decision.", _FAST, "loop")
DRAWN = _counter("drawn", "Decisions whose first item was drawn from a distribution.", "loop", "objective")
EXPLORED = _counter("explored", "Those of them in which it was not the likeliest item.", "loop", "objective")
FEEDBACK = _counter("feedback", "Reports that replicas took, by what became of them.", "loop", "kind", "status")
NODE_FEEDBACK = _counter("node_feedback", "Reports in the log, by the output node of their decision.", "node", "kind")
NODE_REFUSED = _counter(
    "node_refused_feedback", "Reports that contradict a known one, by the output node of their decision.", "node"
)
SHOWN = _histogram("shown_delay_seconds", "Time from a decision to the report of its view.", _SLOW, "node")
ERRORS = _counter("errors", "Requests that were answered with an error, by its code.", "route", "code")

COMMIT = _histogram("commit_seconds", "Time until the log has confirmed what a request gave it.", _FAST, "kind")
LOGGED = _counter("log_records", "Records that the log took, without those that it had.", "kind")
LOG_ERRORS = _counter("log_errors", "Commits that failed, by the error.", "error")
PENDING = _gauge("log_pending_records", "Records that wait for their commit.")
SHADOWS_WAITING = _gauge("shadows_waiting", "Decisions of variants in the shadow that are still to be made.")
SHADOWS = _counter("shadows", "Decisions of variants in the shadow, by what became of them.", "status")
LOG_SIZE = _gauge("log_bytes", "Size of the log's database.")

FRESHNESS = _histogram(
    "freshness_seconds",
    "Time from the commit of a report to answers of its replica that have learned it.",
    (*_FAST, *_SLOW[7:]),
    "loop",
)
HEARD = _gauge("learner_heard_timestamp_seconds", "When a replica had the last word from the learner.")

LAG = _gauge("learner_lag_seconds", "Age of the oldest row of the log that a fold has not read.", "loop", "objective")
LAG_ROWS = _gauge("learner_lag_rows", "Rows of the log that a fold has not read.", "loop", "objective", "table")
WAITING = _gauge("learner_waiting_decisions", "Decisions whose wait windows are open.", "loop", "objective")
SET_ASIDE = _gauge("learner_rows_set_aside", "Rows that a fold could not learn.", "loop", "objective")
FAILED = _gauge("learner_failed", "1 where a fold does not follow the log any more.", "loop", "objective")
UPDATE = _histogram(
    "learner_update_seconds", "Time of a step in which a fold has learned something.", _FAST, "loop", "objective"
)
JUDGED = _counter("learner_reports", "Reports that a fold has judged, by what they were.", "loop", "objective", "case")
OUTCOMES = _counter("outcomes", "Decisions whose outcome was learned first.", "loop", "objective", "policy")
ACCEPTED = _counter("outcomes_accepted", "Those of them that earned more than 0.", "loop", "objective", "policy")
REWARD = _gauge(
    "reward",
    "Mean reward of a decision with bounds, recent or since the learner's start.",
    "loop",
    "objective",
    "policy",
    "window",
    "bound",
)
LOSS = _gauge(
    "training_loss",
    "Mean squared error of the expected reward of a slot, as it was before it was learned.",
    "loop",
    "objective",
    "policy",
    "window",
)
SNAPSHOT_AGE = _gauge(
    "snapshot_age_seconds", "For how long a fold has learned what no snapshot has.", "loop", "objective"
)

ABTEST = _gauge(
    "abtest_difference", "Goal of a variant less the control's, with its interval.", "test", "variant", "bound"
)
SAMPLE_RATIO = _gauge("abtest_sample_ratio_p", "p-value of the users' split, valid at every look.", "test")
OFF_POLICY = _gauge(
    "off_policy_value",
    "What a variant in the shadow would have earned a decision, with its interval.",
    "test",
    "variant",
    "bound",
)
EFFECTIVE = _gauge("off_policy_effective_decisions", "How many decisions that estimate is worth.", "test", "variant")
WEIGHED = _gauge("off_policy_decisions", "How many decisions that estimate is of.", "test", "variant")

AUDITED = _gauge("audit_decisions", "Decisions of the last audit, by what came of making them again.", "result")
AUDIT_DEVIATION = _gauge(
    "audit_propensity_deviation", "Largest deviation of shown from logged probabilities, in standard deviations."
)
AUDIT_TIME = _gauge("audit_timestamp_seconds", "When the last audit ended.")
EXAMINE_ERRORS = _counter("audit_errors", "Audits that failed.")

ARCHIVED = _counter("archive_rows", "Rows that were moved to the archive.", "kind")
ARCHIVE_RUN = _gauge("archive_run_seconds", "Time of the last run that moved closed days to the archive.")
ARCHIVE_ERRORS = _counter("archive_errors", "Runs of it that failed.")
ARCHIVE_LAG = _gauge("archive_lag_seconds", "For how long the oldest day of the log could have been in the archive.")

DISK_FREE = _gauge("disk_free_bytes", "Room left where a folder lies.", "folder")
DISK_SIZE = _gauge("disk_size_bytes", "Size of the disk where it lies.", "folder")

METRICS: Final = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
"""All, in the order above."""
