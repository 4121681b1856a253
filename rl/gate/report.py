"""The report of a challenger: what the verdict was, and all that it can be argued again from."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.gate.collection import Collected
from rl.gate.comparison import Comparison, Part, compare
from rl.gate.conformance import Conformance
from rl.gate.evidence import Evidence
from rl.gate.specification import GateSpec
from rl.gate.verdict import Verdict, judge


class Candidate(Part):
    """Which policy."""

    name: str
    digest: str
    version: int | None
    """In the registry; None: it is not in it."""


class Data(Part):
    """Which rows of the log."""

    decisions: int
    first: int
    """Log positions of the first decision that was evaluated on; 0: there is none,"""
    last: int
    """and of the last."""
    sha256: str
    """Hash of the positions of all, as 8 bytes each, least first."""
    decision_seq: int
    """Log position up to which the log was read,"""
    feedback_seq: int
    """also of feedback."""
    since: AwareDatetime | None
    until: AwareDatetime
    left_out: dict[str, int]
    """How many decisions could not be evaluated on, by why."""


class Level(Part):
    """The share of the gate's alpha that a challenger has, however often it is looked at."""

    family: int
    """How many groups of challengers had been tried on this champion, this one included."""
    members: int
    """Challengers of the group."""
    level: float

    @classmethod
    def of(cls, alpha: float, family: int, members: int) -> "Level":
        """Return the level of each challenger of a family: alpha / (family (family + 1)), divided among its members.

        All of them together are alpha at most, however many families there will be.
        """
        return cls(family=family, members=members, level=alpha / (family * (family + 1) * members))


class Report(Part):
    """What was found of a challenger."""

    format: Literal[1] = 1
    created: AwareDatetime
    challenger: Candidate
    champion: Candidate
    data: Data
    spec: GateSpec
    level: Level
    comparison: Comparison | None
    """None: the log cannot be evaluated on; the verdict says why."""
    conformance: Conformance | None
    """None: it was not checked, as it was only evaluated."""
    verdict: Verdict
    forced: str | None = None
    """Why it was promoted although the gate says no; None: it was not."""
    evidence_sha256: str
    """Of the file of evidence."""


def identify(collected: Collected, evidence: Evidence | None) -> Data:
    """Return which rows were evaluated on."""
    return Data(
        decisions=0 if evidence is None else len(evidence),
        first=0 if evidence is None else int(evidence.seq[0]),
        last=0 if evidence is None else int(evidence.seq[-1]),
        sha256="" if evidence is None else evidence.sha256,
        decision_seq=collected.decision_seq,
        feedback_seq=collected.feedback_seq,
        since=collected.since,
        until=collected.until,
        left_out=dict(collected.left_out),
    )


def find_verdict(
    evidence: Evidence | None,
    spec: GateSpec,
    level: float,
    conformance: Conformance | None,
    left_out: Mapping[str, int],
) -> tuple[Comparison | None, Verdict]:
    """Return what follows from evidence: by how much a challenger is better, and the verdict."""
    if evidence is None:
        why = "the log has too few decisions at which both policies can be asked"
        return None, judge(why, conformance, left_out, spec)
    try:
        comparison = compare(evidence, spec, level)
    except EvaluationError as error:
        return None, judge(str(error), conformance, left_out, spec)
    return comparison, judge(comparison, conformance, left_out, spec)
