"""An explanation as it is answered."""

from collections.abc import Sequence
from typing import Literal

from data.schema import Decision
from rl.policy.explanation.parts import Explanation, ItemExplanation
from rl.policy.explanation.parts import Uncertainty as Uncertain
from serve.contracts.explanations import (
    AppliedRule,
    Contribution,
    DecisionExplanation,
    ExplainedItem,
    PropensityPart,
    PropensityParts,
    TableRow,
    Uncertainty,
    VarianceShare,
)
from serve.decisions.answer import policy_version
from serve.explanations.rules import rules_of
from serve.explanations.views import Seen

_BOOST = "boost"
"""Name of what a rule adds."""


def respond(decision: Decision, seen: Seen, state: Literal["served", "made_again"], top: int) -> DecisionExplanation:
    """Return the explanation of a decision, given how it came about."""
    items = dict[int, ExplainedItem]()
    for view in seen.views:
        explained = view.explain(top)
        for slot, item in zip(view.slots, explained.items, strict=True):
            rules = rules_of(decision, slot, seen.chances[slot].kept_out)
            propensity = _propensity(decision, seen, slot, rules)
            items[slot] = _item(decision, slot, view.name, explained, item, propensity, rules)
    return DecisionExplanation(
        decision_id=decision.decision_id,
        policy=policy_version(decision),
        mode=decision.mode,
        state=state,
        items=[items[slot] for slot in range(len(decision.slate))],
    )


def _item(
    decision: Decision,
    slot: int,
    policy: str,
    explained: Explanation,
    item: ItemExplanation,
    propensity: PropensityParts,
    rules: list[AppliedRule],
) -> ExplainedItem:
    contributions = [
        Contribution(name=one.name, value=one.value, contribution=one.contribution) for one in item.contributions
    ]
    boost = sum(rule.boost or 0.0 for rule in rules) if decision.mode in ("explore", "exploit") else 0.0
    if boost:
        contributions.append(Contribution(name=_BOOST, value=1.0, contribution=boost))
        contributions.sort(key=lambda one: -abs(one.contribution))
    score = decision.scores[slot]
    return ExplainedItem(
        item_id=decision.slate[slot],
        slot=slot,
        policy=policy,
        method=explained.method,
        score=score,
        base=item.base,
        contributions=contributions,
        others=item.others,
        error=item.base + sum(one.contribution for one in contributions) + item.others - score,
        uncertainty=_uncertainty(item.uncertainty),
        table=[TableRow(state=row.state, value=row.value, mean=row.mean, count=row.count) for row in item.table],
        window=explained.window,
        propensity=propensity,
        rules=rules,
    )


def _uncertainty(found: Uncertain | None) -> Uncertainty | None:
    if found is None:
        return None
    shares = [VarianceShare(name=one.name, share=one.share) for one in found.shares]
    return Uncertainty(sd=found.sd, shares=shares, other_shares=found.other_shares)


def _propensity(decision: Decision, seen: Seen, slot: int, rules: Sequence[AppliedRule]) -> PropensityParts:
    chance, propensity = seen.chances[slot], decision.propensities[slot]
    pinned = any(rule.rule == "pin" for rule in rules) and chance.candidates == 1
    parts = {"rule": propensity} if pinned else chance.parts
    return PropensityParts(
        explorer="rule" if pinned else seen.explorers[slot],
        propensity=propensity,
        parts=[PropensityPart(name=name, probability=p) for name, p in parts.items()],
        explore_share=0.0 if pinned else chance.uniform / propensity,
        candidates=chance.candidates,
        best=chance.best,
    )
