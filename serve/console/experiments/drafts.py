"""A new A/B test as a form has it."""

import re
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from serve.abtests.specification import ABTest

OTHERS: Final = 3
"""Variants beside the control that the form has room for."""


class Draft(BaseModel):
    """The fields of the form, as texts; an empty one counts as none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = ""
    kind: str = "split"
    objective: str = "default"
    training: str = "isolated"
    name0: str = "control"
    policy0: str = ""
    share0: str = ""
    name1: str = ""
    policy1: str = ""
    share1: str = ""
    name2: str = ""
    policy2: str = ""
    share2: str = ""
    name3: str = ""
    policy3: str = ""
    share3: str = ""
    guardrails: str = ""
    effect: str = ""
    ends: str = ""
    why: str = ""

    def variant(self, number: int) -> tuple[str, str, str]:
        """Return name, policy and share of a variant; the first is the control."""
        return tuple(str(getattr(self, f"{field}{number}")).strip() for field in ("name", "policy", "share"))  # type: ignore[return-value]


def read_draft(draft: Draft) -> ABTest:
    """Return the test that a form says.

    Raises:
        ValueError: which field is wrong, and what would be right.
    """
    variants = dict[str, Any]()
    for number in range(OTHERS + 1):
        name, policy, share = draft.variant(number)
        if not policy and number:
            continue
        name = name or ("control" if number == 0 else f"variant{number}")
        if name in variants:
            raise ValueError(f"two variants are called {name!r}: give each a name of its own")
        variants[name] = {"policy": policy} | ({"share": _percent(share, name)} if share else {})
    read: dict[str, Any] = {"guardrails": _guardrails(draft.guardrails)} if draft.guardrails.strip() else {}
    if draft.effect.strip():
        read["effect"] = _percent(draft.effect, "the effect")
    given: dict[str, Any] = {
        "name": draft.name.strip(),
        "kind": draft.kind,
        "objective": draft.objective,
        "training": draft.training,
        "variants": variants,
        "control": next(iter(variants)),
        "read": read,
    }
    if draft.ends.strip():
        given["ends"] = _time(draft.ends.strip())
    return ABTest.model_validate(given)


def _percent(text: str, of: str) -> float:
    try:
        return round(float(text.replace(",", ".")) / 100, 9)
    except ValueError:
        raise ValueError(f"expected percent for {of}, such as 12.5, got {text!r}") from None


def _guardrails(text: str) -> dict[str, float]:
    found = dict[str, float]()
    for part in filter(None, re.split(r"[\s,;]+", text)):
        kind, equals, worth = part.partition("=")
        try:
            found[kind] = float(worth)
        except ValueError:
            equals = ""
        if not equals or not kind:
            raise ValueError(f"a guardrail is KIND=WORTH, such as complaint=-1, got {part!r}")
    return found


def _time(text: str) -> str:
    """Return a time of a form, which has no offset, as one of UTC."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%dT%H:%M:%S}Z"
    except ValueError:
        raise ValueError(f"expected a time such as 2026-12-01T12:00, got {text!r}") from None
