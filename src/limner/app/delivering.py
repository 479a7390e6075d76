"""Webhooks of a running server: each target has a thread and a place in the outbox of its own.

So a target that hangs holds up nobody else, neither the writer nor another target. The place lies
in the store: what was sent but not yet noted when the process ended is sent again, under the same
`webhook-id`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from limner import __version__
from limner.errors import MissingExtra, NotFound
from limner.events.batch import SECOND
from limner.profile.changes import Change
from limner.profile.shown import plain
from limner.profile.webhooks import Letter, WebhookConfig, signature

if TYPE_CHECKING:
    from limner.app.limner import Limner

_log = logging.getLogger(__name__)

FIRST_WAIT = 2.0
"""Seconds after the first failure; twice as long after each further one."""

LONGEST_WAIT = 300.0
PAGE = 100
LOOK_SECONDS = 1.0
"""How often a thread that waits sees whether it is to end, or to send something anew."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a webhook is: the change delivered last, and how often the next one has failed.

    `due`: when that is tried again (µs). `dead`: how many could not be delivered. `behind`: how
    many ids there are after `last`.
    """

    name: str
    url: str
    kinds: list[str]
    last: int = 0
    tries: int = 0
    due: int = 0
    error: str = ""
    dead: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    last: int
    tries: int = 0
    due: int = 0
    error: str = ""


def deliveries(app: Limner) -> list[Delivery]:
    """How far each configured webhook is."""
    newest = app.store.outbox.last()
    out = []
    for hook in app.config.webhooks:
        place = _place(app, hook.name)
        dead = len(app.store.dead_letters.of(hook.name))
        out.append(
            Delivery(hook.name, hook.url, list(hook.kinds), place.last, place.tries, place.due,
                     place.error, dead, newest - place.last)
        )  # fmt: skip
    return out


def dead(app: Limner, name: str) -> list[Letter]:
    """What a webhook could not deliver, under the product's own ids. Raises NotFound."""
    _named(app, name)
    return [
        replace(each, change=replace(each.change, user_id=app.own_id(each.change.user)))
        for each in app.store.dead_letters.of(name)
    ]


def redeliver(app: Limner, name: str, change: int | None = None) -> int:
    """Have a dead letter (all of them) sent anew by the server; how many. Raises NotFound."""
    _named(app, name)
    chosen = [each for each in app.store.dead_letters.of(name) if change in (None, each.change.id)]
    if change is not None and not chosen:
        raise NotFound(
            f"change {change} is no dead letter of {name!r}", mend="limner webhooks dead"
        )
    for each in chosen:
        app.store.dead_letters.put(replace(each, again=True))
    app.following.news.tell()
    return len(chosen)


class Deliveries:
    """Sends changes to all configured webhooks, from `start` to `stop`."""

    def __init__(self, app: Limner) -> None:
        """Raises MissingExtra if there are webhooks and no HTTP client is installed."""
        self._app = app
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        if app.config.webhooks:
            try:
                import httpx  # noqa: F401
            except ImportError:
                raise MissingExtra("sending webhooks", "client") from None

    def start(self) -> None:
        """Begin; the caller holds the store's write lock."""
        for hook in self._app.config.webhooks:
            thread = threading.Thread(
                target=_Target(self._app, hook, self._stop).run,
                name=f"limner-webhook-{hook.name}",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Send nothing more. What is under way may be sent again after the next start."""
        self._stop.set()
        self._app.following.news.tell()
        for thread in self._threads:
            thread.join(2.0)


class _Target:
    def __init__(self, app: Limner, hook: WebhookConfig, stop: threading.Event) -> None:
        import httpx

        self._app = app
        self._hook = hook
        self._stop = stop
        self._source = _source(app)
        self._place = _place(app, hook.name)
        self._keep()
        self._client = httpx.Client(
            timeout=hook.timeout,
            follow_redirects=False,
            headers={"Content-Type": "application/json", "User-Agent": f"Limner/{__version__}"},
        )

    def run(self) -> None:
        """Deliver until it is to stop; whatever goes wrong is tried again."""
        with self._client:
            while not self._stop.is_set():
                try:
                    self._work()
                except Exception:
                    if self._stop.is_set():
                        return
                    _log.exception("webhook %s: it will be tried again", self._hook.name)
                    self._stop.wait(LOOK_SECONDS)

    def _work(self) -> None:
        news = self._app.following.news
        seen = news.count
        self._send_anew()
        before = self._place.last
        page = self._app.changes(before, limit=PAGE, kinds=self._hook.kinds or None)
        for change in page.changes:
            if not self._deliver(change):
                self._keep()
                return
        if page.last != before:
            self._place = _Place(page.last)
            self._keep()
        elif not self._stop.is_set():
            news.wait(seen, LOOK_SECONDS)

    def _deliver(self, change: Change) -> bool:
        """Send a change until it has arrived or is dead; False if all is to stop."""
        while True:
            wait = (self._place.due - _now()) / SECOND
            if self._place.tries and self._stop.wait(max(min(wait, LONGEST_WAIT), 0.0)):
                return False
            if self._stop.is_set():
                return False
            if self._app.own_id(change.user) is None:  # erased meanwhile
                self._place = _Place(change.id)
                return True
            error, asked = self._send(change)
            if not error:
                self._place = _Place(change.id)  # kept at the end of the page, or when one fails
                return True
            tries = self._place.tries + 1
            last = self._place.last
            if tries >= self._hook.tries:
                with self._app.store.transaction():
                    letter = Letter(self._hook.name, change, error, tries, _now())
                    self._app.store.dead_letters.put(_nameless(letter))
                    self._place = _Place(change.id)
                    self._keep()
                _log.error("webhook %s: change %d is dead: %s", self._hook.name, change.id, error)
                return True
            wait = min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0)
            self._place = _Place(last, tries, _now() + int(max(wait, asked) * SECOND), error)
            self._keep()

    def _send_anew(self) -> None:
        for letter in self._app.store.dead_letters.of(self._hook.name):
            if not letter.again or self._stop.is_set():
                continue
            user_id = self._app.own_id(letter.change.user)
            error, _ = self._send(replace(letter.change, user_id=user_id))
            if error:
                tries = letter.tries + 1
                self._app.store.dead_letters.put(
                    replace(letter, error=error, tries=tries, at=_now(), again=False)
                )
            else:
                self._app.store.dead_letters.drop(self._hook.name, letter.change.id)

    def _send(self, change: Change) -> tuple[str, float]:
        """Send once; (what failed, the seconds that the target asks to wait)."""
        import httpx

        at = datetime.fromtimestamp(change.time / SECOND, UTC)
        said: dict[str, Any] = {
            "type": change.kind,
            "timestamp": at.isoformat().replace("+00:00", "Z"),
            "data": change,
        }
        body = msgspec.json.encode(said, enc_hook=plain)
        message, now = f"{self._source}-{change.id}", int(time.time())
        headers = {
            "webhook-id": message,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._hook.secret, message, now, body),
        }
        try:
            with self._client.stream(
                "POST", self._hook.url, content=body, headers=headers
            ) as answer:  # whose body nobody reads
                if answer.is_success:
                    return "", 0.0
                after = answer.headers.get("retry-after", "")
                return f"status {answer.status_code}", (
                    min(float(after), LONGEST_WAIT) if after.isdigit() else 0.0
                )
        except httpx.HTTPError as error:
            return type(error).__name__, 0.0

    def _keep(self) -> None:
        place = msgspec.json.encode(self._place).decode()
        self._app.store.set_meta(_meta(self._hook.name), place)


def _place(app: Limner, name: str) -> _Place:
    """How far a webhook is; a new one begins now."""
    kept = app.store.get_meta(_meta(name))
    return msgspec.json.decode(kept, type=_Place) if kept else _Place(app.store.outbox.last())


def _source(app: Limner) -> str:
    """What tells this store's messages from those of others."""
    kept = app.store.get_meta("webhook source")
    if kept is None:
        kept = f"limner-{uuid4().hex[:12]}"
        app.store.set_meta("webhook source", kept)
    return kept


def _nameless(letter: Letter) -> Letter:
    """Without the product's own id: the store keeps that sealed."""
    return replace(letter, change=replace(letter.change, user_id=None))


def _named(app: Limner, name: str) -> WebhookConfig:
    for hook in app.config.webhooks:
        if hook.name == name:
            return hook
    raise NotFound(f"there is no webhook {name!r}", mend="limner webhooks list")


def _meta(name: str) -> str:
    return f"webhook {name}"


def _now() -> int:
    return time.time_ns() // 1_000
