"""Spans of OpenTelemetry for requests, commits and scoring; imported only where they are wanted.

A commit or a scoring that several requests share belongs to none of them, so it is a trace of its
own; one that a request does itself is its child.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from limner import __version__
from limner.errors import ConfigError, MissingExtra
from limner.serve.door import Scope
from limner.serve.seen import Request

try:
    from opentelemetry import propagate, trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SimpleSpanProcessor,
        SpanExporter,
    )
except ImportError:
    raise MissingExtra("serve.traces", "otel") from None


class Tracing:
    """Makes spans and sends them to `where`: "console", a collector's URL, an exporter."""

    def __init__(self, where: str | SpanExporter) -> None:
        resource = Resource.create({"service.name": "limner", "service.version": __version__})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(_processor(where))
        self._tracer = self._provider.get_tracer("limner", __version__)

    @contextmanager
    def onlooker(self, request: Request, scope: Scope) -> Iterator[None]:
        """A span of a request; the child of the caller's, if it says which in `traceparent`."""
        carrier = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        with self._tracer.start_as_current_span(
            request.method, context=propagate.extract(carrier), kind=trace.SpanKind.SERVER
        ) as span:
            try:
                yield
            finally:
                span.update_name(f"{request.method} {request.route}")
                span.set_attributes(
                    {
                        "http.request.method": request.method,
                        "http.route": request.route,
                        "http.response.status_code": request.status,
                        "limner.request_id": request.request_id,
                    }
                )
                if request.as_of >= 0:
                    span.set_attribute("limner.as_of", request.as_of)
                if request.status >= 500:
                    span.set_status(trace.StatusCode.ERROR)

    def watch(self, part: str) -> AbstractContextManager[object]:
        """A `Watch`: a span of a commit or of scoring."""
        return self._tracer.start_as_current_span(part)

    def close(self) -> None:
        """Send what is still to be sent."""
        self._provider.shutdown()


def _processor(where: str | SpanExporter) -> SpanProcessor:
    if not isinstance(where, str):
        return SimpleSpanProcessor(where)
    if where == "console":
        return BatchSpanProcessor(ConsoleSpanExporter())
    if not where.startswith(("http://", "https://")):
        raise ConfigError(
            f"serve.traces = {where!r} is neither console nor a URL",
            where="serve",
            mend='use "console", or a collector as in "http://localhost:4318/v1/traces"',
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise MissingExtra("serve.traces", "otel") from None
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=where))
