"""Guarded updates of policies: outcomes that one cannot learn are left out with the reason, a failed update is undone.

What is left out follows from the log alone, so that a repeated fold leaves out the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.artefacts.artefact import Artefact
from rl.encoders.base import VisitEncoder
from rl.online.fold import FoldSpec
from rl.online.imitation import imitate
from rl.online.observe import (
    TRANSIENT,
    Learnable,
    UnlearnableError,
    encode,
    largest_value,
    own_slots,
    partition,
)
from rl.online.set_aside import SetAsideRows
from rl.online.steps import Lesson, OutcomeChange, Remainder, Taught
from rl.policy.queries import Impressions

_LARGE = 1e6  # after a value above it the state is checked at once
_CHECKPOINT_ROWS = 20_000  # impressions after which the state is checked and becomes the checkpoint

Failure: TypeAlias = tuple[Learnable, Exception]
Encode: TypeAlias = Callable[[Sequence[Learnable], VisitEncoder], Impressions]


@dataclass(slots=True)
class _Checkpoint:
    """A state that a policy was in, and what the policy has learned since."""

    state: dict[str, np.ndarray]
    updates: list[Impressions]
    rows: int = 0


class Guard:
    """Updates a policy, and restores its state if an update fails or leaves values that are not finite."""

    def __init__(self, artefact: Artefact, rows: int = 0, encode: Encode = encode) -> None:
        """Guard a policy that has learned so many impressions since its state was last looked at.

        `encode` says what outcomes teach.
        """
        self._encoder, self._policy, self._encode_outcomes = artefact.encoder, artefact.policy, encode
        self._checkpoint = _Checkpoint(self._policy.state_dict(), [], rows)

    @property
    def rows(self) -> int:
        """Impressions learned since the policy's state was last looked at."""
        return self._checkpoint.rows

    def learn(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, list[Failure]]:
        """Learn what can be learned, in the order given: what is new first, then corrections.

        Returns:
            What was learned, None where nothing was, and each outcome that was left out with the reason.
        """
        good, failures = list(outcomes), list[Failure]()
        for work in (self._encode, self._dry_run):
            impressions, error = self._learn_together(good)
            if error is None:
                return impressions, failures
            good, more = partition(good, work)
            failures += more
        impressions, error = self._learn_together(good)
        if error is not None:  # each alone, but not all together
            failures += [(outcome, error) for outcome in good]
        return impressions, failures

    def take(self, taught: Taught) -> None:
        """Come to what was learned in a step before, when outcomes were in the log that are gone from it.

        Raises:
            PolicyError: the policy cannot go on from it.
        """
        if taught.state is not None:
            self._policy.load_state_dict(dict(taught.state))
            self._checkpoint = _Checkpoint(self._policy.state_dict(), [], taught.rows)
        elif taught.impressions is not None:
            self._update(taught.impressions)

    def _learn_together(self, outcomes: Sequence[Learnable]) -> tuple[Impressions | None, Exception | None]:
        """Learn all of some outcomes or none; returns what was learned, if anything, and why not if that failed."""
        if not outcomes:
            return None, None
        try:
            impressions = self._encode(outcomes)
            self._update(impressions)
        except TRANSIENT:
            raise
        except Exception as error:  # the outcome that causes it is found and reported
            return None, error
        return impressions, None

    def _encode(self, outcomes: Sequence[Learnable]) -> Impressions:
        return self._encode_outcomes(outcomes, self._encoder)

    def _dry_run(self, outcomes: Sequence[Learnable]) -> None:
        """Learn and restore the state; raises what learning raises."""
        checkpoint = self._checkpoint
        self._checkpoint = _Checkpoint(checkpoint.state, [*checkpoint.updates], checkpoint.rows)
        try:
            self._update(self._encode(outcomes))
        finally:
            self._checkpoint = checkpoint
        self._restore()

    def _update(self, impressions: Impressions) -> None:
        try:
            self._policy.update(impressions)
            rows = self._checkpoint.rows + len(impressions)
            state = self._finite_state() if rows >= _CHECKPOINT_ROWS or largest_value(impressions) > _LARGE else None
        except TRANSIENT:
            raise
        except Exception:
            self._restore()
            raise
        if state is not None and rows >= _CHECKPOINT_ROWS:
            self._checkpoint = _Checkpoint(state, [])
        else:
            self._checkpoint.updates.append(impressions)
            self._checkpoint.rows = rows

    def _finite_state(self) -> dict[str, np.ndarray]:
        state = self._policy.state_dict()
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise UnlearnableError(f"array {name!r} of the policy would hold values that are not finite")
        return state

    def _restore(self) -> None:
        self._policy.load_state_dict(self._checkpoint.state)
        for impressions in self._checkpoint.updates:
            self._policy.update(impressions)


class Guards:
    """Those policies of a fold that learn, each guarded: what one cannot learn is set aside for it alone."""

    def __init__(
        self,
        artefacts: Mapping[str, Artefact],
        rows: Mapping[str, int],
        spec: FoldSpec,
        set_aside: SetAsideRows,
    ) -> None:
        """Guard policies.

        Args:
            artefacts: of the fold, by name.
            rows: impressions that each policy has learned since its state was last looked at; 0 if it is left out.
            spec: says which decisions each learns from.
            set_aside: gets the rows that a policy cannot learn.
        """
        self._artefacts, self._spec, self._set_aside = artefacts, spec, set_aside
        self._guards = {
            name: Guard(a, rows.get(name, 0), imitate if name in spec.imitates else encode)
            for name, a in artefacts.items()
            if a.policy.learns
        }

    @property
    def rows(self) -> dict[str, int]:
        """Impressions that each policy has learned since its state was last looked at."""
        return {name: guard.rows for name, guard in self._guards.items()}

    def learn(
        self, due: Sequence[OutcomeChange], remainder: Remainder | None, lessons: dict[str, Lesson] | None
    ) -> dict[str, Impressions]:
        """Let each policy learn the outcomes that are due, in their order, and return what it has learned.

        Args:
            due: the outcomes.
            remainder: what stands in for rows that are gone; None: nothing.
            lessons: gets what each policy was given, if it is asked for.

        Raises:
            PolicyError: a policy cannot go on from the remainder.
        """
        learned_by = dict[str, Impressions]()
        positions = {one.outcome.decision.decision_id: one.seq for one in due}

        def at(learnables: Sequence[Learnable]) -> frozenset[int]:
            return frozenset(positions[outcome.decision.decision_id] for outcome, _ in learnables)

        for name, guard in self._guards.items():
            if remainder and (taught := remainder.policies.get(name)):
                guard.take(taught)
                for seq in sorted(taught.set_aside):
                    self._set_aside.add("decisions", seq, UnlearnableError("it could not be learned then"), name)
                continue
            outcomes: list[Learnable] = [
                lesson
                for one in due
                if (lesson := self._lesson(name, one)) is not None
                # What was not learned cannot be corrected.
                and not self._set_aside.has("decisions", one.seq, name)
            ]
            if not outcomes:
                continue
            learned, failed = guard.learn(outcomes)
            for (outcome, _), error in failed:
                decision = outcome.decision
                self._set_aside.add("decisions", positions[decision.decision_id], error, name, decision)
            if learned is not None:
                learned_by[name] = learned
            if lessons is not None:
                lessons[name] = Lesson(at(outcomes), at([learnable for learnable, _ in failed]), learned)
        return learned_by

    def _lesson(self, name: str, one: OutcomeChange) -> Learnable | None:
        """Return what a policy learns of an outcome; None: nothing."""
        decision, until = one.outcome.decision, self._artefacts[name].learned_until
        if decision.mode == "log" or (until is not None and decision.time <= until):
            return None
        match self._spec.lesson_of(name, decision):
            case None:
                return None
            case "own":
                return own_slots(name, one.outcome, one.previous)
            case "imitation" if one.previous is not None:  # what was shown is learned once, whatever it earns
                return None
        return one.outcome, one.previous
