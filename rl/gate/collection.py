"""From the log to evidence: policies are asked what they would have done at each decision, and learn as in service.

The log is read in its order, some decisions at a time. All that is asked of a policy at a decision, and all that is
predicted of its reward, follows from what was in the log when the first of these was made: as the bounds need it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from data.attribution.join import GRACE, Outcome, attribute
from data.fields import to_us
from data.log.following import last_feedback, new_feedback, whole_feedback
from data.log.store import Store
from data.log.unreadable import Fault
from data.schema import Decision, Feedback, Version
from rl.artefacts.artefact import Artefact
from rl.evaluation.offpolicy.sequences import FIRST
from rl.gate.evidence import Evidence
from rl.gate.logged import Choice, choose
from rl.gate.prediction import Predictor
from rl.gate.rows import Asked, First, Rows
from rl.gate.specification import DEFAULT, GateSpec
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.policy.arrays import IntArray

CHAMPION = "champion"
UNANSWERED = "cannot be answered"
_FOLD = "evaluated"
_PAGE = 50_000
_MOST_REASONS = 50
"""Why decisions are left out; a message may name what each was about."""
_KEPT = 500
"""Decisions that are kept whole, to try policies with."""


@dataclass(frozen=True)
class Collected:
    """What was read."""

    evidence: Mapping[str, Evidence | None]
    """By challenger; None: there are too few decisions."""
    learned: Mapping[str, Artefact]
    """The policies with what they have learned from the log, the champion's too."""
    sample: Sequence[Decision]
    """Some of the last decisions."""
    decision_seq: int
    """Log position up to which decisions were read."""
    feedback_seq: int
    """The same of feedback."""
    since: datetime | None
    until: datetime
    """Decisions made later are left out: their wait windows may be open."""
    left_out: Mapping[str, int]
    """How many decisions could not be evaluated on, by why."""


class Collector:
    """Reads the log once for a champion and any number of challengers."""

    def __init__(
        self,
        store: Store,
        challengers: Mapping[str, Artefact],
        champion: Artefact,
        spec: GateSpec,
        leave_out: Callable[[Decision], str | None] = lambda decision: None,
    ) -> None:
        """Read nothing yet.

        Args:
            store: the log.
            challengers: by name; they learn in place.
            champion: the same.
            spec: which decisions, and what they have earned.
            leave_out: says why a decision is not to be evaluated on either; None: it is.
        """
        self._store, self._spec, self._champion, self._leave_out = store, spec, champion, leave_out
        self._artefacts = {**challengers, CHAMPION: champion}
        self._wait = timedelta(seconds=max(of.wait_s for of in spec.metrics.values())) + GRACE
        self._now = store.now()
        self._since = spec.from_when(*(until for one in self._artefacts.values() for until in trained_until(one)))
        self._feedback_until = last_feedback(store, spec.loop)
        fold = FoldSpec(loop=spec.loop, objective=spec.objective, reward=spec.reward, learn_from="all")
        self._learner = OnlineLearner(store, self._artefacts, fold, fold_id=_FOLD)
        self._predictors = {name: Predictor() for name in spec.metrics}
        self._first = First(spec.guards)
        self._rows = {name: Rows(name, CHAMPION, self._first, spec.guards) for name in challengers}
        self._left_out = Counter[str]()
        self._sample = list[Decision]()

    def collect(self, progress: Callable[[int], object] = lambda read: None) -> Collected:
        """Read the log to its end; `progress` is told how many decisions were read.

        Raises:
            StoreError: the log does not answer.
        """
        heard, faults, after, read = self._read_times(), list[Fault](), 0, 0
        while logged := self._store.decisions(after, self._spec.look, loop=self._spec.loop, faults=faults):
            if self._spec.learn:
                self._learn(after, logged[0][1].time, heard)
            after, read = logged[-1][0], read + len(logged)
            self._ask(logged)
            progress(read)
        self._left_out["cannot be read"] += len(faults)
        evidence = {name: rows.evidence() for name, rows in self._rows.items()}
        until = self._now - self._wait
        left_out = dict(+self._left_out)
        return Collected(
            evidence, self._artefacts, self._sample, after, self._feedback_until, self._since, until, left_out
        )

    def _read_times(self) -> tuple[IntArray, IntArray]:
        """Return the positions of all feedback [n], and when the last up to each was received."""
        seqs, times, after = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        while page := new_feedback(self._store, self._spec.loop, after, _PAGE, until=None, with_content=False):
            after = page[-1].seq
            seqs.append(np.array([report.seq for report in page]))
            times.append(np.array([report.received_us for report in page]))
        return np.concatenate(seqs), np.maximum.accumulate(np.concatenate(times))

    def _learn(self, decision_seq: int, now: datetime, heard: tuple[IntArray, IntArray]) -> None:
        """Let the policies learn what was in the log before a decision was made."""
        seqs, times = heard
        count = int(np.searchsorted(times, to_us(now), side="right"))
        if not decision_seq:
            return
        number = self._learner.number + 1
        step = Version(
            version_id=f"{_FOLD}.{number}",
            loop=self._spec.loop,
            objective=self._spec.objective,
            fold_id=_FOLD,
            number=number,
            decision_seq=decision_seq,
            feedback_seq=max(int(seqs[count - 1]) if count else 0, self._learner.positions[1]),
            as_of=now,
            caught_up=False,
        )
        self._learner.replay(step)

    def _ask(self, logged: Sequence[tuple[int, Decision]]) -> None:
        """Ask the policies at decisions that follow each other; those of the first only teach."""
        usable = [(seq, decision) for seq, decision in logged if self._may_be_used(decision)]
        positions = {decision.decision_id: seq for seq, decision in usable}
        heard, _ = whole_feedback(self._store, self._spec.loop, positions, self._feedback_until)
        asked = self._ask_all(usable, {key: [report for _, report in of] for key, of in heard.items()})
        if not asked:
            return
        best = {name: predictor.best for name, predictor in self._predictors.items()}
        if not self._first.caps and self._predictors[DEFAULT].n >= FIRST:
            for name, who in best.items():
                predicted = np.concatenate([one.predicted[name][who] for one in asked[:FIRST]])
                self._first.caps[name] = float(np.quantile(predicted[np.isfinite(predicted)], 0.999))
        for one in asked:
            if not self._first.caps:
                self._first.note(one)
                self._left_out["the first, which only say what is usual"] += 1
            else:
                for rows in self._rows.values():
                    rows.add(one, best)
        for one in asked:  # after all were asked: nothing is predicted from what comes later
            for name, predictor in self._predictors.items():
                said = {who: float(of[one.position]) for who, of in one.predicted[name].items()}
                if seen := one.outcomes[name].rewards:
                    predictor.learn(one.decision.slate[0], seen[0], said)
        for predictor in self._predictors.values():
            predictor.forget()
        self._sample = [*self._sample, *(one.decision for one in asked)][-_KEPT:]

    def _may_be_used(self, decision: Decision) -> bool:
        why = self._leave_out(decision)
        if why:
            pass
        elif decision.time > self._now - self._wait:
            why = "their wait windows may be open"
        elif self._since is not None and decision.time <= self._since:
            why = "a policy was trained on them, or they were made before `since`"
        elif decision.objective != self._spec.objective:
            why = "made for another objective"
        elif decision.mode != "explore":
            why = f"mode {decision.mode}: nothing was drawn"
        elif not decision.slate:
            why = "nothing was shown"
        elif decision.weight != 1.0:
            why = "they stand for others that the log has not"
        if why:
            self._left_out[why] += 1
        return why is None

    def _ask_all(self, usable: Sequence[tuple[int, Decision]], heard: Mapping[str, Sequence[Feedback]]) -> list[Asked]:
        """Ask all policies at decisions whose outcomes are known."""
        due = list[tuple[int, Decision, dict[str, Outcome]]]()
        for seq, decision in usable:
            reports = heard.get(decision.decision_id, ())
            outcomes = {name: attribute(decision, reports, of, self._now) for name, of in self._spec.metrics.items()}
            if outcomes[DEFAULT].due:
                due.append((seq, decision, outcomes))
            else:
                self._left_out["deferred, and never shown"] += 1
        decisions, histories = [decision for _, decision, _ in due], self._learner.histories
        choices = {
            name: choose(artefact, decisions, histories, np.random.default_rng([due[0][0], number]))
            for number, (name, artefact) in enumerate(self._artefacts.items())
            if due
        }
        asked = list[Asked]()
        for row, (seq, decision, outcomes) in enumerate(due):
            chosen = {name: of[row] for name, of in choices.items()}
            answers = {name: choice for name, choice in chosen.items() if isinstance(choice, Choice)}
            if fault := next((choice for choice in chosen.values() if isinstance(choice, Exception)), None):
                why = f"{UNANSWERED}: {type(fault).__name__}: {fault}"[:200]
                known = why in self._left_out or len(self._left_out) < _MOST_REASONS
                self._left_out[why if known else f"{UNANSWERED}: other reasons"] += 1
                continue
            expected = {name: choice.expected for name, choice in answers.items()}
            predicted = {
                name: predictor.predict(decision.candidates, expected if name == DEFAULT else {})
                for name, predictor in self._predictors.items()
            }
            own = decision.policy_version.partition(".")[0] == self._champion.digest
            position = decision.candidates.index(decision.slate[0])
            asked.append(Asked(seq, decision, position, own, outcomes, answers, predicted))
        return asked


def trained_until(artefact: Artefact) -> list[datetime]:
    """Return until when an artefact has seen decisions and purchases."""
    last = artefact.trained_on.get("last_event")
    events = [datetime.fromisoformat(last)] if isinstance(last, str) else []
    return [*events, *([artefact.learned_until] if artefact.learned_until else [])]
