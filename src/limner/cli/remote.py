"""A running server as the commands see it, through the standard library's HTTP client."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import msgspec

from limner.errors import AllRefused, LimnerError, ModelError, UsageError, to_error
from limner.events.batch import PROPERTY
from limner.events.raw import RawBatch, Refused, RefusedEvent
from limner.model.protocol import Progress
from limner.serve.answers import Accepted
from limner.serve.background import Training
from limner.serve.door import is_local
from limner.serve.wire import encode
from limner.sources.columns import Kind
from limner.sources.files import read_file

T = TypeVar("T")

BATCH = 5_000
"""Events in one request."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server at `url`, whose API key is `key` if it asks for one."""

    url: str
    key: str = ""

    def ask(self, method: str, path: str, kind: type[T], *, body: Any = None, **query: Any) -> T:
        """Send a request; return the answer as `kind`.

        Raises the error that the server's problem document tells of, or UsageError if no server
        answers.
        """
        asked = {name: _spelled(value) for name, value in query.items() if value is not None}
        address = self.url + path + (f"?{urlencode(asked, doseq=True)}" if asked else "")
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            request = Request(
                address, None if body is None else encode(body), headers, method=method
            )
            local = is_local(urlsplit(self.url).hostname or "")
            opener = build_opener(ProxyHandler({})) if local else build_opener()
            with opener.open(request, timeout=300) as answer:
                return msgspec.json.decode(answer.read(), type=kind)
        except HTTPError as error:
            with error:
                raise _told(error) from None
        except (URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UsageError(
                f"no Limner server answers: {reason}",
                where=self.url,
                mend="start one with limner serve, and give the URL that it prints",
            ) from None

    def import_file(
        self,
        path: Path,
        *,
        kind: Kind,
        columns: Mapping[str, str],
        constants: Mapping[str, str],
        source: str,
        progress: Progress,
    ) -> tuple[Accepted, list[Refused]]:
        """Send a file's rows in batches; (what became of them, the rows that were refused)."""
        refused: list[Refused] = []
        added = repeated = as_of = sent = 0
        batches = read_file(
            path, kind=kind, refuse=refused.append, columns=columns, constants=constants,
            source=source,
        )  # fmt: skip
        for lines, events in _requests(batches, source):
            try:
                answer = self.ask("POST", "/v1/events", Accepted, body=events)
            except AllRefused as error:
                answer = Accepted(0, 0, error.refused, as_of)
            for row in answer.refused:
                event = dict(events[row.line - 1])
                shown = {**event.pop("properties"), **event}
                refused.append(Refused(str(path), lines[row.line - 1], row.rule, row.reason, shown))
            added, repeated = added + answer.added, repeated + answer.repeated
            as_of, sent = answer.as_of, sent + len(events)
            progress(kind, sent, 0)
        return Accepted(added, repeated, [], as_of), refused

    def train(self, progress: Progress, start: str = "") -> Training:
        """Have the server train, from nothing or a version, and wait; ModelError if it fails."""
        asked = {"from": start} if start else {}
        return self._waited(self.ask("POST", "/v1/train", Training, **asked), progress)

    def update(self, progress: Progress) -> Training:
        """Have the server learn what is new, and wait for it. Raises ModelError if it fails."""
        return self._waited(self.ask("POST", "/v1/update", Training), progress)

    def _waited(self, training: Training, progress: Progress) -> Training:
        while training.state == "running":
            progress(training.stage, training.done, training.total)
            time.sleep(0.5)
            training = self.ask("GET", "/v1/train", Training)
        if training.error is not None:
            failed = training.error
            raise ModelError(failed.what, where=failed.where or self.url, mend=failed.mend)
        return training


def user_path(user: str, *rest: str) -> str:
    """The path of something of a user.

    >>> user_path("a/b", "why", "x")
    '/v1/users/a%2Fb/why/x'
    """
    return "/".join(["/v1/users", *(quote(part, safe="") for part in (user, *rest))])


def _spelled(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_spelled(each) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _told(error: HTTPError) -> LimnerError:
    """The error in a problem document; whatever else came, as well as can be told."""
    text = error.read()
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    if not isinstance(body, dict) or "title" not in body:
        return LimnerError(
            f"the answer is {error.code} {error.reason}, and no Limner's",
            where=error.url or "",
            mend="give the URL that limner serve prints",
        )
    if body.get("type") == "urn:limner:error:all-refused":
        found = AllRefused(str(body.get("detail")), mend=str(body.get("mend", "")))
        found.refused = msgspec.convert(body.get("refused", []), list[RefusedEvent])
        return found
    return to_error(body)


def _requests(
    batches: Iterator[RawBatch], source: str
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """(lines, events) of each request.

    The server tells rows of equal content in one request apart by counting them. Where an earlier
    request had such a row already, it gets an id, so that it is not taken for that one.
    """
    earlier: Counter[bytes] = Counter()
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            rows = batch.table.slice(start, BATCH).to_pylist()
            lines = [int(row.pop("line")) for row in rows]
            here: Counter[bytes] = Counter()
            events = []
            for row in rows:
                digest = hashlib.blake2b(row.pop("content"), digest_size=16).digest()
                event = _event(row, source)
                if digest in earlier and "event_id" not in event:
                    event["event_id"] = f"{digest.hex()}-{earlier[digest] + here[digest]}"
                here[digest] += 1
                events.append(event)
            yield lines, events
            earlier += here


def _event(row: dict[str, Any], source: str) -> dict[str, Any]:
    given = {name: _plain(value) for name, value in row.items() if value is not None}
    properties = {
        name.removeprefix(PROPERTY): given.pop(name)
        for name in list(given)
        if name.startswith(PROPERTY)
    }
    return {**given, "source": source, "properties": properties}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list) else str(value)
