"""OpenTelemetry's SDK, set up for one process: which spans are kept, and where they go."""

import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from serve.config import TraceSettings

MAX_LINKS = 1_000
"""Requests that a span of what was learned names, at most."""
_NAME = "raycommend"
_PATH = "/v1/traces"


def make_provider(settings: TraceSettings, part: str, instance: str) -> TracerProvider:
    """Return a provider that nothing else in the process uses; what is not sent yet is sent at the exit."""
    attributes = {"service.instance.id": instance, "raycommend.part": part}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = _NAME
    provider = TracerProvider(
        sampler=ALWAYS_ON if part == "learner" else make_sampler(settings),  # it has spans of sampled requests alone
        resource=Resource.create(attributes),
        span_limits=SpanLimits(max_links=MAX_LINKS),
    )
    endpoint = settings.endpoint.rstrip("/") + _PATH if settings.endpoint else None
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return provider


def make_sampler(settings: TraceSettings) -> Sampler | None:
    """Return what chooses requests; None: what the environment says, which is all of them by default."""
    if settings.sample is None and settings.follow:
        return None
    share = ALWAYS_ON if settings.sample is None else TraceIdRatioBased(settings.sample)
    if settings.follow:
        return ParentBased(share)
    return ParentBased(share, remote_parent_sampled=share)
