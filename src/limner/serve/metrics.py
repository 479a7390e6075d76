"""What a server says of itself to Prometheus, in its text format; docs/operations.md has all of it.

Labels are routes, statuses and names of parts: never anything of a user.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from time import monotonic, perf_counter
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi import Request as HttpRequest
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from limner import __version__
from limner.app import Limner
from limner.app.operating import operations
from limner.profile.writer import Recorded
from limner.serve.door import Scope
from limner.serve.lots import Lots
from limner.serve.scopes import Scoped
from limner.serve.seen import Request

TIMES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets, in seconds."""
WAITING, FOR = 10_000, 60.0
"""Acknowledged positions that wait to be seen in an answer, and for how many seconds."""
READS = frozenset({"/v1/users/{user_id}/portrait", "/v1/users/{user_id}/recommendations"})

router = APIRouter(route_class=Scoped, tags=["operations"])


class Measures:
    """The numbers of one server: counted as things happen, or read when they are asked for."""

    def __init__(self, app: Limner) -> None:
        self._app = app
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "limner_request_seconds", "Time to answer, by route and status.",
            ["method", "route", "status"], buckets=TIMES, registry=self.registry,
        )  # fmt: skip
        self._events = Counter(
            "limner_events", "Events sent to POST /v1/events, by what became of them.",
            ["outcome"], registry=self.registry,
        )  # fmt: skip
        for outcome in ("recorded", "repeated", "refused"):
            self._events.labels(outcome)
        self._parts = {
            "commit": Histogram(
                "limner_commit_seconds", "Time to append a commit to the log and fold it.",
                buckets=TIMES, registry=self.registry,
            ),
            "score": Histogram(
                "limner_score_seconds", "Time to score and rank the lists asked for together.",
                buckets=TIMES, registry=self.registry,
            ),
        }  # fmt: skip
        self._freshness = Histogram(
            "limner_freshness_seconds",
            "From the acknowledgement of events to the first portrait or list that reflects them.",
            buckets=(*TIMES, 30.0, FOR), registry=self.registry,
        )  # fmt: skip
        self._acknowledged: deque[tuple[int, float]] = deque(maxlen=WAITING)
        self._fresh = threading.Lock()
        ProcessCollector(registry=self.registry)

    def begin(self, lots: Lots) -> None:
        """Count what waits in these, too."""
        self.registry.register(_Standing(self._app, lots))

    @contextmanager
    def onlooker(self, request: Request, scope: Scope) -> Iterator[None]:
        """Count a request, and what it says of freshness."""
        try:
            yield
        finally:
            self._requests.labels(request.method, request.route, str(request.status)).observe(
                request.seconds
            )
            if request.status == 200 and request.as_of >= 0:
                self._note(request)

    def _note(self, request: Request) -> None:
        now = monotonic()
        if request.route == "/v1/events":
            self._acknowledged.append((request.as_of, now))
        elif request.route in READS:
            with self._fresh:
                waiting = self._acknowledged
                while waiting and (waiting[0][0] <= request.as_of or waiting[0][1] < now - FOR):
                    _, since = waiting.popleft()
                    if since >= now - FOR:
                        self._freshness.observe(now - since)

    @contextmanager
    def watch(self, part: str) -> Iterator[None]:
        """A `Watch` of the writer and of scoring."""
        began = perf_counter()
        try:
            yield
        finally:
            self._parts[part].observe(perf_counter() - began)

    def recorded(self, outcomes: Sequence[Recorded | Exception]) -> None:
        """Count what became of events."""
        for one in outcomes:
            if isinstance(one, Recorded):
                self._events.labels("recorded").inc(one.added)
                self._events.labels("repeated").inc(one.repeated)
                self._events.labels("refused").inc(len(one.refused))

    def text(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self.registry)


def waiting(lots: Lots) -> dict[str, int]:
    """How many requests wait, by what for."""
    return {each.name: getattr(lots, each.name).waiting for each in fields(lots)}


class _Standing:
    """What is read when it is asked for."""

    def __init__(self, app: Limner, lots: Lots) -> None:
        self._app = app
        self._lots = lots

    def describe(self) -> list[Metric]:
        """Nothing ahead of time."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now."""
        found = operations(self._app)
        yield InfoMetricFamily("limner", "The version.", value={"version": __version__})
        queue = GaugeMetricFamily(
            "limner_waiting", "Requests that wait for their turn.", labels=["queue"]
        )
        for name, waits in waiting(self._lots).items():
            queue.add_metric([name], waits)
        yield queue
        for name, said, value in (
            ("users", "Users with a portrait.", found.users),
            ("items", "Items of the catalog.", found.items),
            ("position", "The log's next position.", found.position),
            ("quarantined", "Rows held in quarantine.", found.quarantined),
            ("snapshot_age_seconds", "Since the newest snapshot was written.", found.snapshot_age),
            ("snapshot_behind", "Rows of the log since the newest snapshot.",
             found.snapshot_behind),
            ("model_behind", "Rows of the log since what the model learned.", found.model_behind),
            ("erased_since_training", "Users erased since, whom the model had learned from.",
             found.erased_since_training),
        ):  # fmt: skip
            if value is not None:
                yield GaugeMetricFamily(f"limner_{name}", said, value=value)
        if found.model is not None:
            yield InfoMetricFamily(
                "limner_model", "The version that scores.", value={"version": found.model}
            )
        disk = GaugeMetricFamily("limner_disk_bytes", "Bytes on disk, by part.", labels=["part"])
        for part, size in found.disk.items():
            disk.add_metric([part], size)
        yield disk
        quality = GaugeMetricFamily(
            "limner_model_ndcg", "NDCG@10 of the model in use when it was trained, by task.",
            labels=["task"],
        )  # fmt: skip
        for task, value in found.ndcg.items():
            quality.add_metric([task], value)
        yield quality
        if found.gate is not None:
            live = GaugeMetricFamily(
                "limner_gate_ndcg",
                "NDCG@10 on the newest events when the gate last judged: the version then in use "
                "and the new one.",
                labels=["which"],
            )
            for which, value in (
                ("incumbent", found.gate.incumbent), ("candidate", found.gate.candidate)
            ):  # fmt: skip
                if value is not None:
                    live.add_metric([which], value)
            yield live
            yield GaugeMetricFamily(
                "limner_gate_promoted", "Whether the gate let the new one into use, 1 or 0.",
                value=float(found.gate.promoted),
            )  # fmt: skip


async def _measures(request: HttpRequest) -> Measures:
    measures: Measures = request.app.state.measures
    return measures


@router.get("/metrics", include_in_schema=False)
def get_metrics(measures: Annotated[Measures, Depends(_measures)]) -> Response:
    """The server's numbers in the text format of Prometheus."""
    return Response(measures.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
