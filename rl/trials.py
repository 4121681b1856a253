"""Challengers tried on a champion by what the log has: read, compared, reported. For who evaluates and who promotes.

A policy is named by a folder of `rl.train`, or by a version or an alias of the registry.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from data.atomic import lock
from data.errors import DataError, first_fault
from data.log.loops import begun_folds
from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import Artefact, load_served
from rl.artefacts.errors import ArtefactError
from rl.config import read_toml
from rl.downloads import fetch
from rl.gate.collection import CHAMPION as CHAMPION_NAME
from rl.gate.collection import Collected, Collector
from rl.gate.conformance import Conformance, check_conformance
from rl.gate.files import EVIDENCE, PAGE, REPORT, write
from rl.gate.report import Candidate, Level, Report, find_verdict, identify
from rl.gate.specification import GateSpec
from rl.gate.verdict import judge
from rl.online.fold import FoldSpec
from rl.registry import CHAMPION, MODEL, RegisteredPolicy, RegistryError, resolve
from rl.trial_records import Trial, begin_trials, end_trial, fail_on_error


@dataclass(frozen=True)
class Named:
    """A policy that was named."""

    reference: str
    artefact: Artefact
    version: RegisteredPolicy | None
    """None: it was a folder."""

    @property
    def candidate(self) -> Candidate:
        """Which it is, for a report."""
        version = None if self.version is None else self.version.version
        return Candidate(name=self.artefact.name, digest=self.artefact.digest, version=version)


@dataclass(frozen=True)
class Tried:
    """A challenger with its report."""

    named: Named
    report: Report
    folder: Path
    trial: Trial | None
    """None: the registry was not told."""


def find(settings: Settings, reference: str, model: str = MODEL) -> Named:
    """Return a policy by a folder, or by a version or an alias of the registry.

    Raises:
        ArtefactError: there is none, or it cannot be served.
        RegistryError: the registry has none, or does not answer.
    """
    if (folder := Path(reference)).is_dir():
        return Named(reference, load_served(folder), None)
    if len(folder.parts) > 1:
        raise ArtefactError(
            f"expected a folder of rl.train, or a version or an alias of the registry; no folder {folder}"
        )
    version = resolve(settings, reference, model)
    return Named(reference, load_served(fetch(settings, version)), version)


def try_challengers(
    settings: Settings,
    champion: Named,
    challengers: Sequence[Named],
    spec: GateSpec,
    *,
    out: Path | None = None,
    model: str = MODEL,
    track: bool = True,
    conform: bool = False,
    forced: str | None = None,
) -> list[Tried]:
    """Try challengers on a champion, and write a report of each.

    Args:
        settings: where log and registry are.
        champion: who answers now.
        challengers: each another policy than the champion.
        spec: what is asked of them.
        out: folder of the reports; default: `reports` in the home.
        model: of the registry.
        track: tell the registry: only then it counts whom else was tried on the champion.
        conform: check also how they keep what policies promise.
        forced: why it is to be promoted whatever is found.

    Raises:
        DataError: a challenger is the champion, or named twice.
        RegistryError, StoreError: registry or log do not answer.
    """
    digests = [one.artefact.digest for one in challengers]
    if champion.artefact.digest in digests:
        raise DataError(f"challenger and champion are the same policy, {champion.artefact.digest}")
    if len({*digests}) < len(digests):
        raise DataError(f"a challenger was named twice: {', '.join(digests)}")
    trials = dict[str, Trial]()
    with ExitStack() as held:
        store = held.enter_context(closing(Store.open(settings.store_url, make=False)))
        for digest in digests:  # another process would replace the report before the registry has it
            folder = _folder(settings, out, digest, champion.artefact.digest)
            held.enter_context(lock(folder.with_name(f".{folder.name}.lock"), _busy))
        if "reward" not in spec.model_fields_set:
            served = served_reward(store, spec.loop, spec.objective)
            spec = spec.model_copy(update={"reward": served or champion.artefact.reward})
        if track:
            trials = begin_trials(settings, champion.artefact.digest, digests, spec, model)
        with fail_on_error(settings, trials):
            by_digest = {one.artefact.digest: one.artefact for one in challengers}
            collected = Collector(store, by_digest, champion.artefact, spec).collect(_progress)
            tried = []
            for one in challengers:
                trial = trials.get(one.artefact.digest)
                level = trial.level if trial else Level.of(spec.alpha, 1, len(challengers))
                conformance = _conform(collected, one.artefact.digest) if conform else None
                report = _report(collected, one, champion, spec, level, conformance, forced)
                folder = _folder(settings, out, one.artefact.digest, champion.artefact.digest)
                report = write(folder, report, collected.evidence[one.artefact.digest])
                tried.append(Tried(one, report, folder, trial))
            for done in tried:
                if done.trial is not None:
                    end_trial(settings, done.trial, done.report, done.folder)
                    del trials[done.named.artefact.digest]
        return tried


def _folder(settings: Settings, out: Path | None, challenger: str, champion: str) -> Path:
    return (out or settings.home / "reports") / f"{challenger}-{champion}"


def _busy(process: str) -> RegistryError:
    return RegistryError(
        f"process {process} tries the same challenger on the same champion now: wait until it has ended"
    )


def force_unseen(
    settings: Settings,
    champion: RegisteredPolicy,
    challenger: Named,
    spec: GateSpec,
    why: str,
    forced: str,
    out: Path | None = None,
) -> Tried:
    """Report a challenger that is to be promoted by force where there is nothing to compare it by.

    Args:
        settings: where the registry is.
        champion: which could not be had, or of which there is no log.
        challenger: who is promoted.
        spec: what would have been asked.
        why: nothing could be compared.
        forced: why it is to be promoted.
        out: folder of the reports; default: `reports` in the home.

    Raises:
        RegistryError: the registry does not answer.
    """
    digest = challenger.artefact.digest
    trials = begin_trials(settings, champion.digest, [digest], spec, champion.model)
    trial = trials[digest]
    now = datetime.now(UTC)
    nothing = Collected({digest: None}, {}, (), 0, 0, None, now, {})
    report = Report(
        created=now,
        challenger=challenger.candidate,
        champion=Candidate(name=champion.name, digest=champion.digest, version=champion.version),
        data=identify(nothing, None),
        spec=spec,
        level=trial.level,
        comparison=None,
        conformance=None,
        verdict=judge(why, None, {}, spec),
        forced=forced,
        evidence_sha256="",
    )
    folder = _folder(settings, out, digest, champion.digest)
    with fail_on_error(settings, trials):
        tried = Tried(challenger, write(folder, report, None), folder, trial)
        end_trial(settings, trial, tried.report, folder)
    return tried


def served_reward(store: Store, loop: str, objective: str) -> RewardSpec | None:
    """Return what the service learned from last, as its fold says; None: no fold was begun."""
    for first in begun_folds(store, loop, objective):
        if first.begins is not None:
            return FoldSpec.model_validate(first.begins["spec"]).reward
    return None


def _progress(read: int) -> None:
    if read % 10_000 < 1_000:
        print(f"gate: {read:,} decisions were read", file=sys.stderr, flush=True)


def _conform(collected: Collected, digest: str) -> Conformance | None:
    learned = collected.learned
    if not collected.sample:
        return None
    return check_conformance(learned[digest], learned[CHAMPION_NAME], collected.sample)


def _report(
    collected: Collected,
    challenger: Named,
    champion: Named,
    spec: GateSpec,
    level: Level,
    conformance: Conformance | None,
    forced: str | None,
) -> Report:
    evidence = collected.evidence[challenger.artefact.digest]
    comparison, verdict = find_verdict(evidence, spec, level.level, conformance, collected.left_out)
    return Report(
        created=datetime.now(UTC),
        challenger=challenger.candidate,
        champion=champion.candidate,
        data=identify(collected, evidence),
        spec=spec,
        level=level,
        comparison=comparison,
        conformance=conformance,
        verdict=verdict,
        forced=None if verdict.promote else forced,
        evidence_sha256="",
    )


def summarise(tried: Tried) -> dict[str, Any]:
    """Return what a command prints of a challenger."""
    report, found = tried.report, dict[str, Any]()
    if (comparison := report.comparison) is not None:
        found = {
            "difference": comparison.all.difference and comparison.all.difference.model_dump(),
            "lower_bound": comparison.all.lower,
        }
    return {
        "challenger": report.challenger.model_dump(),
        "champion": report.champion.model_dump(),
        "promote": report.verdict.promote,
        "verdict": report.verdict.sentence,
        "against": list(report.verdict.against),
        "decisions": report.data.decisions,
        **found,
        "level": report.level.level,
        "report": str(tried.folder / REPORT),
        "page": str(tried.folder / PAGE),
        "evidence": str(tried.folder / EVIDENCE) if report.data.decisions else None,
    }


def add_options(group: Any) -> None:
    """Add the options of a command that tries challengers."""
    group.add_argument("--champion", metavar="POLICY", default=CHAMPION, help=f"default: {CHAMPION} of the registry")
    group.add_argument("--gate", type=Path, metavar="FILE.toml", help="what is asked: see rl/README.md")
    group.add_argument("--model", default=MODEL, help=f"MLflow's registered model (default: {MODEL})")
    group.add_argument("--out", type=Path, help="folder of the reports; default: reports in the home")


def read_spec(options: argparse.Namespace) -> GateSpec:
    """Return what is asked, by the file that was named.

    Raises:
        DataError: a field is unknown or out of range.
    """
    fields: Mapping[str, Any] = read_toml(options.gate) if options.gate else {}
    try:
        return GateSpec.model_validate(fields)
    except ValidationError as error:
        raise DataError(f"{options.gate}: {first_fault(error)}") from error


def say(answer: object) -> None:
    """Print what a command found."""
    print(json.dumps(answer), flush=True)
