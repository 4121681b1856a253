"""Spans within a request."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes


@contextmanager
def inner(tracer: Tracer, name: str, attributes: Attributes = None) -> Iterator[Span]:
    """Make a span below the current one. Of an error it has the kind alone: the text may be a client's."""
    with tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as error:  # a cancelled one as well
            mark_failed(span, type(error).__name__)
            raise


def mark_failed(span: Span, kind: str) -> None:
    """Say that what a span stands for has failed."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
