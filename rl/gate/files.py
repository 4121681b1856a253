"""Reports as files, and the verdict argued again from them."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from data.atomic import replace_folder
from data.errors import RecommenderError, first_fault
from rl.gate.evidence import Evidence
from rl.gate.page import render
from rl.gate.report import Report, find_verdict
from rl.gate.verdict import Verdict

REPORT, PAGE, EVIDENCE = "report.json", "report.html", "evidence.parquet"


class ReportError(RecommenderError):
    """A report cannot be read, or what it says does not follow from what it holds; says what."""


def write(folder: Path, report: Report, evidence: Evidence | None) -> Report:
    """Write a report as files, replacing what the folder held; returns it with the hash of its evidence."""
    with replace_folder(folder) as new:
        if evidence is not None:
            evidence.save(new / EVIDENCE)
            report = report.model_copy(update={"evidence_sha256": _sha256(new / EVIDENCE)})
        (new / REPORT).write_text(report.model_dump_json(indent=1), encoding="utf-8")
        (new / PAGE).write_text(render(report), encoding="utf-8", errors="xmlcharrefreplace")
    return report


def read(folder: Path) -> Report:
    """Read a report.

    Raises:
        ReportError: there is none, or it is of another format.
    """
    try:
        return Report.model_validate_json((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"no report in {folder}: {error.filename} is missing") from error
    except ValidationError as error:
        raise ReportError(f"{folder / REPORT} is no report of this version: {first_fault(error)}") from error


def argue_again(folder: Path) -> Verdict:
    """Return the verdict that follows from a report's evidence and specification; of what it says, only these count.

    Raises:
        ReportError: it is another than the report says, or the evidence is not what the report was made of.
    """
    report, path, evidence = read(folder), folder / EVIDENCE, None
    if report.data.decisions:
        if not path.is_file() or _sha256(path) != report.evidence_sha256:
            raise ReportError(f"{path} is not what the report was made of")
        evidence = Evidence.read(path)
        if evidence.sha256 != report.data.sha256:
            raise ReportError(f"{path} is of other decisions than the report says")
    level, left_out = report.level.level, report.data.left_out
    _, verdict = find_verdict(evidence, report.spec, level, report.conformance, left_out)
    if verdict.promote != report.verdict.promote or len(verdict.against) != len(report.verdict.against):
        raise ReportError(f"{folder} says: {report.verdict.sentence} From its evidence follows: {verdict.sentence}")
    return verdict


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
