"""Lines of a process's log as JSON, one object a line, without secrets, and what each is about.

Used by the replicas, which answer requests, and by the process that writes the log for each.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TextIO

LOGGER: Final = "raycommend"
ACCESS: Final = f"{LOGGER}.access"
"""Of lines about requests that have ended; what they say was checked before."""
HIDDEN: Final = "***"
NAMED: Final = 100
"""Decisions of one request whose ids are in a line, at most."""

_TOKEN = re.compile(r"\brk_([0-9a-f]+)_[A-Za-z0-9_-]+")
_HEADER = re.compile(
    r"""(?ix) (authorization | x-api-key | ocp-apim-subscription-key | api[_-]key)
    (['"]? \s* [:=,] \s* (?:b(?=['"]))? ['"]?) (?: (?:bearer|basic) \s+ )? [^\s'",)}\]]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",)}\]]+")

Fields = Mapping[str, str | int | float | list[str]]
"""Members of a line."""


@dataclass(slots=True)
class Subject:
    """What lines are about: a request, and the decisions that it is for."""

    request_id: str
    decisions: dict[str, str] = field(default_factory=dict, kw_only=True)
    """Versions of the policies that decided, by the decisions' ids; "" where it is not known."""


SUBJECT: ContextVar[Subject | None] = ContextVar("subject", default=None)
"""Of the task that runs; lines carry it."""


def note_decisions(decisions: Iterable[tuple[str, str]]) -> None:
    """Say which decisions the request of this task is for: ids, with versions of policies or ""."""
    if (subject := SUBJECT.get()) is not None:
        subject.decisions.update(decisions)


class Redact(logging.Filter):
    """Hides API keys, the headers that carry them and given secrets, in the text and the traceback of a record."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(sorted((secret for secret in secrets if secret), key=len, reverse=True))

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "rk_" in text:
            text = _TOKEN.sub(rf"rk_\1_{HIDDEN}", text)
        return _BEARER.sub(rf"\1 {HIDDEN}", _HEADER.sub(rf"\1\2{HIDDEN}", text))

    def hides(self, word: str) -> bool:
        """Say whether a text without spaces would not be logged as it is; much quicker than `text`."""
        return "rk_" in word or any(secret in word for secret in self._secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, rewritten."""
        if record.name == ACCESS:
            return True  # made of what was checked before
        record.msg, record.args = self.text(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.text(record.exc_text)
        if fields := getattr(record, "fields", None):
            record.fields = {k: self.text(v) if isinstance(v, str) else v for k, v in fields.items()}
        return True


def describe(subject: Subject, redact: Redact) -> Iterator[tuple[str, str | int | list[str]]]:
    """Return what a line says of its subject; clients give decisions their ids, so these are redacted."""
    if subject.request_id:
        yield "request_id", subject.request_id
    if not (decisions := subject.decisions):
        return
    ids = [redact.text(one) if redact.hides(one) else one for one in islice(decisions, NAMED)]
    versions = list(dict.fromkeys(filter(None, decisions.values())))
    if len(decisions) == 1:
        yield "decision_id", ids[0]
    else:
        yield "decisions", len(decisions)
        yield "decision_ids", ids
    if len(versions) == 1:
        yield "policy_version", versions[0]
    elif versions:
        yield "policy_versions", versions


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; `extra={"fields": {...}}` adds members."""

    def __init__(self, redact: Redact | None = None) -> None:
        """Build it; `redact` is for what lines say of their subjects, the rest of a record it has seen as a filter."""
        super().__init__()
        self._redact = redact or Redact()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: Mapping[str, Any] | None = getattr(record, "fields", None)
        if record.name == ACCESS and not fields:
            return record.getMessage()  # the lines of `serve.http.bypass.access_lines`
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if message := record.getMessage():
            line["message"] = message
        if subject := SUBJECT.get():
            line.update(describe(subject, self._redact))
        if fields:
            line.update(fields)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text
        # ASCII alone: some readers of lines break them at other characters than a line feed.
        return json.dumps(line, separators=(",", ":"), default=str)


def setup(secrets: Iterable[str] = (), stream: TextIO | None = None, others: Iterable[str] = ("ray.serve",)) -> Redact:
    """Write the service's log to a stream, once per process however often it is called, and redact other loggers.

    Args:
        secrets: what must not be logged, besides what looks like a key.
        stream: where to; default: the standard error that the process began with.
        others: loggers that have handlers of their own, which keep them.
    """
    redact = Redact(secrets)
    # Not sys.stderr: a replica of Serve has put a logger in its place, which unwinds the stack for every line.
    handler = logging.StreamHandler(stream or sys.__stderr__ or sys.stderr)
    handler.setFormatter(JsonFormatter(redact))
    handler.addFilter(redact)
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in others:
        other = logging.getLogger(name)
        other.filters[:] = [kept for kept in other.filters if not isinstance(kept, Redact)]
        other.addFilter(redact)
    return redact
