"""Which of a shop's rules touched the slots of a decision, and how."""

from collections.abc import Sequence

from data.schema import Decision, Rules
from serve.contracts.explanations import AppliedRule

_LISTED = 20


def rules_of(decision: Decision, slot: int, kept_out: Sequence[int]) -> list[AppliedRule]:
    """Return the rules that touched a slot.

    Args:
        decision: whose slots they are.
        slot: from 0.
        kept_out: positions of the candidates that were left and that rules did not allow there.
    """
    out = [decision.candidates[position] for position in kept_out]
    if decision.slots:
        excluded = [item for item in out if item in decision.slots[slot].exclude]
        text = f"the slot excludes {_list(excluded)}"
        return [AppliedRule(rule="exclusion", detail=text, items=excluded[:_LISTED])] if excluded else []
    rules, item = decision.rules, decision.slate[slot]
    if rules is None:
        return []
    found = list[AppliedRule]()
    pin = rules.pins.get(item)
    if pin is not None:
        came = "" if pin == slot else f"; it came forward to slot {slot}, as nothing else was allowed before"
        found.append(AppliedRule(rule="pin", detail=f"pinned to slot {pin}{came}", slot=pin))
    if boost := rules.boosts.get(item):
        found.append(AppliedRule(rule="boost", detail=f"boosted by {boost:+g}", boost=boost))
    return found if pin is not None else found + _caps(rules, decision.slate[:slot], out)


def _caps(rules: Rules, before: Sequence[str], out: Sequence[str]) -> list[AppliedRule]:
    """Return the caps that keep items out, given what is shown before."""
    found = list[AppliedRule]()
    for category, cap in rules.caps.items():
        members = {item for item, has in rules.categories.items() if category in has}
        counted = members & {*before, *rules.pins}
        kept_out = [item for item in out if item in members and item not in rules.pins]
        if kept_out and len(counted) >= cap:
            text = f"at most {cap} of category {category}: kept out {_list(kept_out)}"
            found.append(AppliedRule(rule="cap", detail=text, category=category, items=kept_out[:_LISTED]))
    return found


def _list(items: Sequence[str]) -> str:
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(items[:3]) + more
