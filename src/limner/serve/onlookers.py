"""Who looks on while a server answers: metrics always, a log and traces where they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response

from limner.app import Limner
from limner.app.operating import Status, status
from limner.profile.watching import Watch
from limner.serve import metrics
from limner.serve.access import access_log
from limner.serve.metrics import Measures
from limner.serve.openapi import PROBLEMS, answers
from limner.serve.requests import Lots, Shop, json_answer
from limner.serve.scopes import Scoped
from limner.serve.seen import Seen

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from limner.serve.tracing import Tracing

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS)


@router.get(
    "/status",
    tags=["operations"],
    summary="How the server fares",
    responses=answers(Status),
)
def get_status(app: Shop, lots: Lots) -> Response:
    """What is in the store, how far snapshot and model are behind it, what waits, disk sizes."""
    return json_answer(status(app, metrics.waiting(lots)))


def look_on(out: FastAPI, app: Limner, measures: Measures) -> None:
    """Have requests to `out` and the work on `app` seen; after all other middleware."""
    config = app.config.serve
    measures.begin(out.state.lots)
    out.state.measures = measures
    out.include_router(metrics.router)
    out.state.onlookers = [measures.onlooker]
    app.writer.watch = measures.watch
    if config.log != "off":
        out.state.onlookers.append(access_log)
    if config.traces:
        trace_to(out, app, config.traces)
    out.add_middleware(Seen, onlookers=out.state.onlookers)


def trace_to(out: FastAPI, app: Limner, where: str | SpanExporter) -> None:
    """Send spans to "console", the URL of a collector, or an exporter."""
    from limner.serve.tracing import Tracing

    out.state.tracing = Tracing(where)
    out.state.onlookers.append(out.state.tracing.onlooker)
    app.writer.watch = _both(app.writer.watch, out.state.tracing.watch)


def close(out: FastAPI) -> None:
    """Send the traces that are still to be sent."""
    tracing: Tracing | None = getattr(out.state, "tracing", None)
    if tracing is not None:
        tracing.close()


def _both(one: Watch, other: Watch) -> Watch:
    @contextmanager
    def watch(part: str) -> Iterator[None]:
        with one(part), other(part):
            yield

    return watch
