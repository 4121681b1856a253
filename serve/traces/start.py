"""Whether there are traces: where no endpoint is named, none, and nothing of OpenTelemetry is loaded for them."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from data import json_lines
from data.json_lines import Redact
from serve.config import Secrets, TraceSettings

if TYPE_CHECKING:
    from serve.traces.learned import LearnedSpans
    from serve.traces.tracer import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "http/protobuf"
log = logging.getLogger("raycommend.traces")


def is_wanted(settings: TraceSettings, environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether an endpoint is named, and OpenTelemetry's own variables do not turn traces off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(settings.endpoint or any(environment.get(name) for name in _ENDPOINTS))


def start_tracer(settings: TraceSettings, part: str, instance: str, redact: Redact) -> "Tracer | None":
    """Return what makes the spans of this process, or None where none are wanted.

    Args:
        settings: where they go, and of which requests.
        part: of the service: `gateway` or `learner`.
        instance: which one it is, such as the replica's id.
        redact: hides secrets in what clients have named.
    """
    if not is_wanted(settings):
        return None
    if (asked := next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SPOKEN)) != _SPOKEN:
        log.warning("traces are sent by %s: the environment asks for %s, which is not spoken here", _SPOKEN, asked)
    # Here, not above: who has no collector does not load what talks to one.
    from serve.traces.provider import make_provider
    from serve.traces.tracer import Tracer

    return Tracer(make_provider(settings, part, instance), redact)


def start_learner_spans(settings: TraceSettings, instance: str) -> "LearnedSpans | None":
    """Set up the log of the learner's process, and return what makes spans of what folds learn, if any."""
    key = Secrets().key
    tracer = start_tracer(settings, "learner", instance, json_lines.setup([key] if key else []))
    return tracer.learned() if tracer else None
