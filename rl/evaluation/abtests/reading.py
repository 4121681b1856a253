"""A/B tests read as they grow: exposures are added up, and at any look a scorecard says what they show."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np

from data.fields import from_us, to_us
from rl.evaluation.abtests.comparison import compare_all, compare_segments, sums_of
from rl.evaluation.abtests.decision import decide
from rl.evaluation.abtests.estimates.balance import Balance, Light, Phase, check_balance
from rl.evaluation.abtests.estimates.planning import POWER, looking_costs, users_needed
from rl.evaluation.abtests.scorecard import Arm, Check, Health, Plan, Scorecard
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.abtests.units import GOAL, Exposures, Units
from rl.evaluation.offpolicy.errors import EvaluationError

_CROSSED = (0.001, 0.01)
"""Shares of users with several variants at which the light is yellow, and red."""
_SILENT = 100
"""Users after which each variant should have been shown."""

Phases = Sequence[tuple[datetime, Mapping[str, float]]]
"""From when on which shares: a variant that is off has none, or 0."""


class Reading:
    """What is known of one test so far."""

    def __init__(self, variants: Sequence[str], control: str, spec: ReadSpec, name: str = "") -> None:
        """Begin with nothing.

        Raises:
            EvaluationError: the control is no variant.
        """
        if control not in variants:
            raise EvaluationError(f"the control must be a variant ({', '.join(variants)}), got {control!r}")
        self.control, self.spec, self.name = control, spec, name
        self.units = Units(variants, (GOAL, *spec.kinds), spec.segments)

    def add(self, exposures: Exposures) -> None:
        """Add decisions that have come since."""
        self.units.add(exposures)

    def read(self, phases: Phases, plan: bool = True) -> Scorecard:
        """Return what is known now.

        Args:
            phases: the test's shares, from its start on.
            plan: say how long it takes to see something, which loads tea-tasting.
        """
        units, spec = self.units, self.spec
        rows = compare_all(units, self.control, spec)
        shares = dict(phases[-1][1]) if phases else {}
        total = sum(shares.values()) or 1.0
        arms = tuple(
            Arm(
                variant=name,
                share=shares.get(name, 0.0) / total,
                users=int(units.of(name).sum()),
                decisions=units.decisions(name),
                crossed=units.crossed(name),
            )
            for name in units.variants
        )
        health, planned = self._check(phases, arms), self._plan() if plan else None
        return Scorecard(
            name=self.name,
            control=self.control,
            as_of=from_us(units.last_us) if len(units) else None,
            spec=spec,
            health=health,
            arms=arms,
            days=units.by_day(),
            rows=tuple(rows),
            segments=tuple(compare_segments(units, self.control, spec)) if len(units) and spec.segments else (),
            plan=planned,
            decision=decide(rows, arms, health, planned, self.control, spec),
        )

    def _check(self, phases: Phases, arms: Sequence[Arm]) -> Health:
        units = self.units
        decisions, users = sum(arm.decisions for arm in arms), sum(arm.users for arm in arms)
        silent = [arm.variant for arm in arms if arm.share > 0 and not arm.users]
        if silent or not users:
            says = f"no exposures of {', '.join(silent)}" if silent else "no exposures"
            checks = [Check(name="exposures", light="red" if users > _SILENT else "yellow", says=says)]
        else:
            checks = [Check(name="exposures", light="green", says=f"{decisions:,} decisions for {users:,} users")]
        varied = any(units.spread(GOAL, name, 0.0) > 0 for name in units.variants)
        checks.append(
            Check(name="metric", light="green", says="the goal has been earned")
            if varied
            else Check(name="metric", light="yellow", says="no decision has earned anything yet")
        )
        balance = check_balance(self._count(phases))
        checks.append(Check(name="balance", light=balance.light, says=_describe(balance)))
        crossed = self._count_crossed(phases)
        share = crossed / users if users else 0.0
        light: Light = "red" if share > _CROSSED[1] else "yellow" if share > _CROSSED[0] else "green"
        checks.append(
            Check(name="crossover", light=light, says=f"{crossed:,} users met several variants ({share:.2%})")
        )
        worst: Light = max((check.light for check in checks), key=("green", "yellow", "red").index)
        return Health(light=worst, checks=tuple(checks), balance=balance)

    def _count(self, phases: Phases) -> list[Phase]:
        """Return the users by phase and variant."""
        starts = np.array([to_us(since) for since, _ in phases], dtype=np.int64)
        of = np.searchsorted(starts, self.units.first_us, side="right") - 1 if len(starts) else np.empty(0, np.int64)
        return [
            Phase(shares, {n: int((self.units.of(n) & (of.clip(0) == at)).sum()) for n in self.units.variants})
            for at, (_, shares) in enumerate(phases)
        ]

    def _count_crossed(self, phases: Phases) -> int:
        """Return how many users met several variants although theirs was not switched off."""
        now = phases[-1][1] if phases else {}
        return sum(self.units.crossed(name) for name in self.units.variants if now.get(name, 0.0) > 0 or not phases)

    def _plan(self) -> Plan | None:
        arm, spec = sums_of(self.units, self.control, GOAL, self.spec), self.spec
        if len(arm) < spec.least_units or not arm.earned.any() or not arm.spread:
            return None
        variants = len(self.units.variants)
        users = users_needed(arm, spec.effect, spec.alpha, POWER, variants)
        more = looking_costs(spec.alpha / max(variants - 1, 1), POWER)
        return Plan(effect=spec.effect, power=POWER, users_fixed=users, users_sequential=round(users * more))


def _describe(balance: Balance) -> str:
    p = f"p {balance.p_sequential:.2g} at every look"
    if balance.light == "green":
        return f"users came as often as shares say ({p})"
    counts = ", ".join(f"{name} {count:,} of {balance.expected[name]:,.0f}" for name, count in balance.observed.items())
    return f"users did not come as often as shares say: {counts} ({p})"
