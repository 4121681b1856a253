"""What follows from a scorecard, in words; and which variants are to be switched off."""

from collections.abc import Sequence

from rl.evaluation.abtests.estimates.intervals import Range
from rl.evaluation.abtests.scorecard import Arm, Decision, Health, Plan, Row
from rl.evaluation.abtests.specification import ReadSpec


def decide(
    rows: Sequence[Row], arms: Sequence[Arm], health: Health, plan: Plan | None, control: str, spec: ReadSpec
) -> Decision:
    """Return what follows.

    Args:
        rows: of all users.
        arms: the control among them.
        health: of the test.
        plan: how long it takes to see something; None: not known.
        control: its name.
        spec: how the test is read.
    """
    off, better, details = dict[str, str](), list[str](), list[str]()
    for arm in arms:
        if arm.variant == control:
            continue
        of = [row for row in rows if row.variant == arm.variant]
        reasons = [reason for row in of if (reason := _speaks_against(row, control))]
        if reasons and arm.share > 0:
            off[arm.variant] = "; ".join(reasons)
        if not reasons and any(row.role == "goal" and row.finding == "better" for row in of):
            better.append(arm.variant)
        details.append(_describe(arm, of, reasons, control, plan, spec))
    halted = _find_halt(health, spec)
    if health.balance.light == "red":
        sentence = f"Not to be believed: {next(c.says for c in health.checks if c.name == 'balance')}."
    elif off:
        sentence = " ".join(f"{name} is worse than {control}: {why}." for name, why in off.items())
    elif better:
        sentence = " ".join(line for line, arm in zip(details, _others(arms, control), strict=True) if arm in better)
    else:
        sentence = " ".join(details) or "There is no variant beside the control."
    return Decision(
        sentence=sentence,
        details=tuple(details),
        better=tuple(better) if health.balance.light != "red" else (),
        switch_off={} if halted else off,
        halted=halted,
    )


def _find_halt(health: Health, spec: ReadSpec) -> str | None:
    if health.balance.light == "red":
        return "the sample ratio is red: who gets which variant is broken"
    if spec.kind == "fixed":
        return "intervals are of one look that was planned: nothing acts on them"
    return None if spec.switch_off else "the test's settings say so (switch_off)"


def _others(arms: Sequence[Arm], control: str) -> list[str]:
    return [arm.variant for arm in arms if arm.variant != control]


def _speaks_against(row: Row, control: str) -> str | None:
    """Return why a row asks for the variant to be switched off; None: it does not."""
    if row.role == "goal" and row.finding == "worse":
        return f"it earns {_say(row, control)}"
    if row.role == "guardrail" and row.finding == "broken":
        return f"guardrail {row.metric} is broken, {_say(row, control)}, at most {row.margin:+.4g} was allowed"
    return None


def _say(row: Row, control: str) -> str:
    assert row.difference is not None, "only rows with an interval say something"
    looks = "at every look" if row.interval == "sequential" else "at one planned look"
    sure = f"{1 - row.alpha:.3g}".removeprefix("0")
    if row.lift is not None:
        return f"{row.lift.value:+.1%} beside {control} ({_percent(row.lift)}, {sure} {looks})"
    of = row.difference
    return f"{of.value:+.4g} beside {control} ({of.low:+.4g} to {of.high:+.4g}, {sure} {looks})"


def _percent(of: Range) -> str:
    return f"{of.low:+.1%} to {of.high:+.1%}"


def _describe(
    arm: Arm, rows: Sequence[Row], reasons: Sequence[str], control: str, plan: Plan | None, spec: ReadSpec
) -> str:
    goal = next(row for row in rows if row.role == "goal")
    if reasons:
        return f"{arm.variant} is worse: {'; '.join(reasons)}."
    if goal.finding == "better":
        return f"{arm.variant} is better: it earns {_say(goal, control)}."
    if goal.finding == "too early":
        few = f"it has {arm.users:,} users, {spec.least_units:,} are needed of each variant"
        return f"Too early to say anything of {arm.variant}: {few}."
    if goal.difference is None:
        return f"Nothing can be said of {arm.variant}: what decisions earn does not vary."
    needs = ""
    if plan is not None:
        users = plan.users_sequential if spec.kind == "sequential" else plan.users_fixed
        needs = f" To see a change of {plan.effect:.0%} takes about {users:,} users in all."
    return f"No difference is seen of {arm.variant}: it earns {_say(goal, control)}.{needs}"
