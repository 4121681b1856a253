"""What a change would change, said before it is made: from what to what, for whom, and how it is undone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serve.abtests.assignment import moved, reallot
from serve.abtests.probation import BY as PROBATION
from serve.abtests.specification import UNSEEN, ABTest
from serve.abtests.state import ABTestState
from serve.console.experiments.candidates import Candidate, Registry, Version

_NOBODY = "no variant: answered as configured"


@dataclass(frozen=True)
class Confirmation:
    """What somebody is asked before something is changed."""

    title: str
    sentence: str
    path: str
    """Where the form is sent, below the page."""
    button: str
    back: str
    """Where one goes who does not want it."""
    changes: Sequence[tuple[str, str, str]] = ()
    """What, from, to."""
    affected: Sequence[str] = ()
    undo: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    """Of the form, hidden."""
    reason: str | None = None
    """The name of the field in which a reason is asked for; None: none is."""
    reason_needed: bool = False
    danger: bool = False


def name(version: Version) -> str:
    """Return what a version is called."""
    return f"version {version.number} ({version.policy}, {version.digest})"


def confirm_promotion(registry: Registry, candidate: Candidate, force: bool, gate: str | None) -> Confirmation:
    """Say what promoting a version changes; with force whatever the gate says."""
    champion, version = registry.champion, candidate.version
    assert champion is not None, "the caller has looked"
    condition = "whatever the gate says" if force else "if the gate lets it through"
    affected = [
        "All users whom the champion answers, from the next request on, within seconds of the promotion.",
        "For the days of the probation a share of them stays with the champion before it, if the service is configured "
        "so (it is by default: a tenth, for 14 days), unless an A/B test has the users.",
        f"The gate asks what {gate or 'it asks by default'} says, of the log, beside the service: seconds to minutes.",
    ]
    if force:
        affected.insert(0, "The reason stays in the report, in the registry and in the service's health.")
    if candidate.trial is not None and candidate.trial.verdict:
        affected.append(f"The gate's last word of it: {candidate.trial.verdict}")
    if version.failed:
        affected.append(f"It was the champion before and was taken back by itself: {version.failed}")
    return Confirmation(
        title=f"Promote {name(version)}" + (" by force" if force else ""),
        sentence=f"Version {version.number} becomes the champion {condition}.",
        path="/promote",
        button="Promote by force" if force else "Ask the gate, and promote",
        back="",
        changes=[("Champion", name(champion), f"{name(version)}, {condition}")],
        affected=affected,
        undo=["Roll back on this page, or python -m rl.rollback: the champion is again what it is now."],
        fields={"version": str(version.number), "champion": str(champion.number)},
        reason="force" if force else None,
        reason_needed=force,
        danger=force,
    )


def confirm_rollback(registry: Registry) -> Confirmation:
    """Say what taking the last promotion back changes."""
    champion, before = registry.champion, registry.before
    assert champion is not None, "the caller has looked"
    assert before is not None, "the caller has looked"
    return Confirmation(
        title=f"Roll back to {name(before)}",
        sentence=f"Version {before.number} is the champion again, and the promotion of version {champion.number} is "
        "taken back.",
        path="/rollback",
        button="Roll back",
        back="",
        changes=[("Champion", name(champion), name(before))],
        affected=[
            "All users whom the champion answers, within seconds; no request fails meanwhile.",
            "What the champion before it learned online goes on from the log: nothing that was reported is lost.",
            "A probation of the present champion ends.",
        ],
        undo=[f"Promote version {champion.number} again, through the gate or by force."],
        fields={"version": str(champion.number)},
        danger=True,
    )


def confirm_shares(state: ABTestState, shares: Mapping[str, float], why: str | None) -> Confirmation:
    """Say what other shares change, and which users change hands."""
    test = state.test
    return Confirmation(
        title=f"Change the shares of {test.name}",
        sentence="Users move only from variants that are to have less.",
        path=f"/tests/{test.name}/shares",
        button="Change the shares",
        back=f"/tests/{test.name}",
        changes=[(one, _percent(state.shares.get(one, 0.0)), _percent(share)) for one, share in shares.items()],
        affected=_moves(state, shares),
        undo=[f"Give the shares of now again: {_spell(test.name, state.shares)}"],
        fields={"shares": _json(shares), "why": why or "", "seen": str(len(state.history))},
    )


def confirm_off(state: ABTestState, variant: str, why: str | None) -> Confirmation:
    """Say what switching a variant off changes."""
    test, shares = state.test, state.shares | {variant: 0.0}
    if test.kind not in UNSEEN:
        shares[test.control] = state.shares[test.control] + state.shares[variant]
    return Confirmation(
        title=f"Switch {variant} of {test.name} off",
        sentence=f"The users of {variant} are answered by the control, {test.control}; the test goes on.",
        path=f"/tests/{test.name}/off",
        button=f"Switch {variant} off",
        back=f"/tests/{test.name}",
        changes=[(one, _percent(state.shares.get(one, 0.0)), _percent(share)) for one, share in shares.items()],
        affected=_moves(state, shares),
        undo=[f"Give it a share again: {_spell(test.name, state.shares)}"],
        fields={"variant": variant, "why": why or "", "seen": str(len(state.history))},
        danger=True,
    )


def confirm_stop(state: ABTestState) -> Confirmation:
    """Say what stopping a test changes."""
    test, affected = state.test, []
    if test.kind in UNSEEN:
        affected.append("No user: nobody was shown what these variants have chosen.")
    else:
        affected.append(f"{_percent(sum(state.shares.values()))} of the users go back to the configured routing.")
    affected.append("Its exposures and results stay in the log; what they have taught stays taught.")
    if state.started_by == PROBATION:
        affected.append("It is the probation of a champion: without it nothing takes the champion back by itself.")
    return Confirmation(
        title=f"Stop {test.name}",
        sentence="The test ends for good.",
        path=f"/tests/{test.name}/stop",
        button="Stop the test",
        back=f"/tests/{test.name}",
        changes=[("Test", f"runs since {state.begins:%Y-%m-%d %H:%M} UTC", "over")],
        affected=affected,
        undo=["It cannot be started again under its name: start another one with another."],
        fields={"seen": str(len(state.history))},
        reason="why",
        danger=True,
    )


def confirm_start(test: ABTest, why: str | None) -> Confirmation:
    """Say what starting a test changes."""
    who = {
        "split": "Each of these users is answered by their variant only, and stays with it.",
        "interleaving": "These users' slates are filled by both variants together.",
        "shadow": "No user sees a difference: what the others would have shown is logged.",
        "apprentice": "No user sees a difference: the others learn to show what the control shows.",
    }[test.kind]
    others = 1.0 - sum(test.shares.values())
    affected = [who]
    if test.kind not in UNSEEN and others > 1e-9:
        affected.append(f"{_percent(others)} of the users are answered as configured.")
    affected.append("Replicas follow within seconds; nobody is exposed before all variants can answer.")
    if test.read.switch_off and test.read.kind == "sequential":
        affected.append("A variant that is worse, or breaks a guardrail, is switched off by itself.")
    now = "as configured"
    return Confirmation(
        title=f"Start {test.name}",
        sentence=f"A test of kind {test.kind} on the objective {test.objective}; its control is {test.control}.",
        path="/tests",
        button="Start the test",
        back="/start",
        changes=[(one, now, f"{_percent(share)}: {test.variants[one].policy}") for one, share in test.shares.items()],
        affected=affected,
        undo=[f"Stop it on its page, or python -m serve.abtest stop {test.name}: all users are answered as now again."],
        fields={"definition": test.model_dump_json(exclude_defaults=True), "why": why or ""},
    )


def _moves(state: ABTestState, shares: Mapping[str, float]) -> list[str]:
    if state.test.kind in UNSEEN:
        return ["No user: nobody is shown what these variants choose."]
    hands = moved(state.intervals, reallot(state.intervals, shares))
    found = [f"{_percent(share)} of all users move from {_side(a)} to {_side(b)}." for (a, b), share in hands.items()]
    if not found:
        return ["No user changes variant."]
    stay = _percent(1 - sum(hands.values()))
    return [*found, f"{stay} stay where they are. Who moves has met two variants from then on: results say how many."]


def _side(variant: str | None) -> str:
    return _NOBODY if variant is None else variant


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _spell(test: str, shares: Mapping[str, float]) -> str:
    given = " ".join(f"{one}={share:g}" for one, share in shares.items())
    return f"python -m serve.abtest shares {test} {given}"


def _json(shares: Mapping[str, float]) -> str:
    return json.dumps(dict(shares))
