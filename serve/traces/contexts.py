"""A span's place in a trace as text, as `traceparent` has it (W3C Trace Context)."""

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from serve.http.front import read_trace_id


def write_parent(context: SpanContext) -> str:
    """Return a `traceparent`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def read_parent(text: str) -> SpanContext | None:
    """Return what a `traceparent` names; None: it is none."""
    if not read_trace_id(text.encode("latin-1", "replace")):
        return None
    _, trace, span, flags = text.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16) & 1))


def under(parent: SpanContext | None) -> Context:
    """Return a context whose current span is the parent; None: no span, whatever the task's own is."""
    return Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
