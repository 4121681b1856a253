"""Decisions made again: from the log's steps the state that each was made with, from that the decision."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from data.errors import RecommenderError
from data.log.following import policy_versions, whole_decisions
from data.log.loops import fold_steps
from data.log.store import Store
from data.log.unreadable import Fault, describe_error
from data.schema import Decision
from data.settings import Settings
from rl.online.fold import Publication
from rl.online.observe import TRANSIENT
from rl.online.snapshots import Snapshots
from rl.policy.arrays import FloatArray
from rl.provenance.replay import Replay, Sources, begin_replay, find_beginning
from serve.decisions.recommender import Recommender, to_visit
from serve.decisions.router import Router

_CHUNK = 1_000
_COMPARED = ("candidates", "slate", "propensities", "scores", "probabilities", "policy_version", "teams")


class Fold(NamedTuple):
    """A fold that is made again."""

    fold_id: str
    begun: datetime | None = None
    """None: the log does not know it."""
    since: datetime | None = None
    """From when on steps are repeated; see `rl.provenance.replay.Beginning`."""


@dataclass(frozen=True)
class Comparison:
    """A logged decision beside the same one made again."""

    logged: Decision
    fold: "Fold"
    """The fold that it was made with."""
    step: int
    differs: str | None
    """What is not the same, or why it could not be made again; None: it is the same, bit by bit."""
    distribution: FloatArray | None = None
    """[A] of the first slot, where it was made again."""


def repeat_all(
    store: Store,
    settings: Settings,
    since: datetime,
    until: datetime,
    faults: list[Fault] | None = None,
    *,
    from_snapshots: bool = True,
) -> Iterator[Comparison]:
    """Make every decision of a time again, fold by fold and step by step.

    What a fold has set aside it sets aside again, as that follows from the log.

    Args:
        store: the log.
        settings: where artefacts and snapshots lie.
        since: of the decisions.
        until: the end of that time.
        faults: gets the decisions that cannot be read back.
        from_snapshots: begin each fold from its last snapshot before its first decision; else with the log's first row.
    """
    faults, snapshots = [] if faults is None else faults, Snapshots(settings) if from_snapshots else None
    sources = Sources.of(store, settings, snapshots)
    index = sorted((place_of(version), seq) for seq, version in policy_versions(store, since, until))
    for fold_id, of_fold in groupby(index, key=lambda row: row[0][0]):
        places = [(number, seq) for (_, number), seq in of_fold]
        yield from _repeat_fold(sources, fold_id, places, faults)


def place_of(policy_version: str) -> tuple[str, int]:
    """Return the fold's id and the step of a policy version; those of no fold come first."""
    parts = policy_version.split(".")
    return (parts[1], int(parts[2])) if len(parts) == 3 and parts[2].isdecimal() else ("", 0)


def _repeat_fold(
    sources: Sources, fold_id: str, places: list[tuple[int, int]], faults: list[Fault]
) -> Iterator[Comparison]:
    """Make the decisions at (step, log position) again, which are in order."""
    store, versions = sources.store, fold_steps(sources.store, fold_id)
    if not versions or versions[0].begins is None:
        unknown = "the log does not know the fold that it was made with"
        yield from _fail(store, Fold(fold_id), places, unknown, faults)
        return
    fold = Fold(fold_id, versions[0].as_of, versions[0].as_of)
    try:
        beginning = find_beginning(sources, fold_id, places[0][0])
        fold = fold._replace(since=beginning.since)
        replay = begin_replay(sources, beginning)
        recommender = recommender_of(replay)
    except TRANSIENT:  # it is the log that does not answer, not the fold that cannot be made
        raise
    except (RecommenderError, ValueError, OSError) as error:
        yield from _fail(store, fold, places, str(error), faults)
        return
    learner, failed = replay.learner, ""
    steps = (step for step in versions if step.number > learner.number)
    for number, of_step in groupby(places, key=lambda row: row[0]):
        try:
            while not failed and learner.number < number and (step := next(steps, None)):
                replay.repeat(step)
        except TRANSIENT:
            raise
        except Exception as error:  # as in service: the fold fails alone
            failed = f"the fold cannot be repeated beyond step {learner.number}: {describe_error(error)}"
        recommender.number = number
        missing = None if learner.number == number else f"the log has no step {number} of fold {fold_id}"
        if missing or failed:
            yield from _fail(store, fold, list(of_step), failed or missing or "", faults)
        else:
            for decision in _read(store, [seq for _, seq in of_step], faults):
                yield _repeat(decision, fold, number, recommender)


def _fail(
    store: Store, fold: Fold, places: Sequence[tuple[int, int]], why: str, faults: list[Fault]
) -> Iterator[Comparison]:
    for number, of_step in groupby(places, key=lambda row: row[0]):
        for decision in _read(store, [seq for _, seq in of_step], faults):
            yield Comparison(decision, fold, number, why)


def recommender_of(replay: Replay) -> Recommender:
    """Return what decides as a fold did that is being made again; its `number` is the caller's to follow."""
    learner, artefacts = replay.learner, replay.artefacts
    recommender = Recommender(Router(dict.fromkeys(artefacts, 1.0)), learner.spec.loop, learner.spec.objective)
    # The learner's own policies and histories: they learn as it does.
    recommender.restore(Publication(learner.fold_id, learner.number, 0, artefacts, learner.histories))
    return recommender


def _repeat(decision: Decision, fold: Fold, step: int, recommender: Recommender) -> Comparison:
    try:
        again, distribution = recommender.decide_and_explain(to_visit(decision))
    except TRANSIENT:
        raise
    except Exception as error:  # a damaged row, or a policy that cannot answer it: the others are made again
        return Comparison(decision, fold, step, f"it cannot be made again: {describe_error(error)}")
    differs = find_difference(decision, again)
    return Comparison(decision, fold, step, differs, None if differs else distribution)


def find_difference(logged: Decision, again: Decision) -> str | None:
    """Return what is not the same of a decision that was made again, in words; None: it is the same, bit by bit."""
    name = next((name for name in _COMPARED if getattr(again, name) != getattr(logged, name)), None)
    if name is None:
        return None
    return f"{name} is {_short(getattr(logged, name))} in the log, {_short(getattr(again, name))} made again"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(store: Store, seqs: Sequence[int], faults: list[Fault]) -> Iterator[Decision]:
    for at in range(0, len(seqs), _CHUNK):
        decisions, unreadable = whole_decisions(store, seqs[at : at + _CHUNK])
        faults += unreadable
        yield from (decision for _, decision in decisions)
