"""The verdict: whether a challenger may replace the champion, and in a sentence why."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from rl.gate.collection import UNANSWERED
from rl.gate.comparison import Bound, Comparison
from rl.gate.conformance import Conformance
from rl.gate.specification import GateSpec

_UNANSWERED = 0.001
"""The share of decisions that a policy may fail to answer."""


class Verdict(BaseModel):
    """What the gate says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promote: bool
    sentence: str
    against: tuple[str, ...]
    """All that speaks against it."""


def judge(
    comparison: Comparison | str, conformance: Conformance | None, left_out: Mapping[str, int], spec: GateSpec
) -> Verdict:
    """Return the verdict; without a conformance check, what the log alone says.

    Args:
        comparison: by how much it is better; or why that cannot be said.
        conformance: how it keeps what policies promise; None: it was not checked.
        left_out: how many decisions could not be evaluated on, by why.
        spec: what is asked.
    """
    conform = [] if conformance is None else conformance.faults(spec.slowdown, spec.slack_s)
    if isinstance(comparison, str):
        why = comparison
        if left_out:
            reason, count = max(left_out.items(), key=lambda row: row[1])
            why += f"; {count:,} were left out ({reason})"
        return Verdict(promote=False, sentence=f"Not promoted: the log cannot tell, {why}.", against=(why, *conform))
    against = list[str]()
    if comparison.challenger.abstains is not None:
        against.append(f"the log cannot tell what it would earn: {comparison.challenger.abstains}")
    if comparison.champion.abstains is not None and comparison.own < 1:  # what it did itself is known
        against.append(f"the log cannot tell what the champion would earn: {comparison.champion.abstains}")
    if not comparison.all.holds:
        against.append(_lacks(comparison.all))
    against += [_lacks(bound) for bound in comparison.guarded if not bound.holds]
    unanswered = sum(count for why, count in left_out.items() if why.startswith(UNANSWERED))
    if unanswered > _UNANSWERED * (unanswered + comparison.decisions):
        against.append(f"{unanswered:,} decisions could not be answered by both policies")
    against += conform
    found, decisions = comparison.all, f"{comparison.decisions:,} decisions"
    better = "" if found.difference is None else f" {found.difference.value:+.4g} a decision"
    share = f" ({found.difference.value / found.champion:+.1%})" if found.difference and found.champion else ""
    if against:
        sentence = f"Not promoted, after {decisions}{better}{share}: {against[0]}"
        if len(against) > 1:
            sentence += f" (and {len(against) - 1} more)"
        return Verdict(promote=False, sentence=f"{sentence}.", against=tuple(against))
    sentence = (
        f"Better: after {decisions} the challenger earns{better}{share} beside the champion, and at least "
        f"{found.lower:+.4g} at a level of {comparison.level:.3g} however often one looks"
    )
    if comparison.assumed:
        assumed = " and ".join(comparison.assumed)
        sentence += f", if {assumed}: so it is in the log, and no `rewards` or `least_propensity` of the gate says it"
    return Verdict(promote=True, sentence=f"{sentence}.", against=())


def _lacks(bound: Bound) -> str:
    where = {
        "all": "",
        "segment": f"in the guarded segment {bound.name}, ",
        "guardrail": f"for the guardrail {bound.name}, ",
    }[bound.kind]
    if bound.lower is None:
        return f"{where}{bound.decisions} decisions are too few for a bound"
    than = f"the margin {bound.needed:.4g}" if bound.kind == "all" else f"{bound.needed:.4g}, what counts as not worse"
    return f"{where}the lower bound of the difference is {bound.lower:.4g}, not above {than}"
