"""Topics from what users wrote: put to a language model, judged, and recorded like any event.

What is kept enters the log as a `$topic` row of the user's own, one for each topic and text, at the
time of the text. So a replay needs no model, and what takes the text away (erasure, retention, an
undone import, a retraction) takes away what rests on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from limner.errors import EndpointDown, ModelError, UsageError
from limner.events.batch import PROPERTY, Bool, EventBatch
from limner.events.raw import PROPOSED, RESTS_ON, RESTS_ON_TYPE, TOPIC
from limner.explain.facts import masked
from limner.explain.proposals import AT_ONCE, Judged, proposed
from limner.model.protocol import Progress
from limner.profile.choices import choices_of
from limner.profile.facets.keyed import texts_of
from limner.profile.facets.opinion import Proposed
from limner.profile.portrait import events_in

if TYPE_CHECKING:
    from limner.app.limner import Limner

T = TypeVar("T")

READ_UP_TO = "topics proposed up to"
"""What the store remembers: the position before which all texts were read."""

USERS_AT_ONCE = 32
"""Users with something new after whom what was proposed is recorded."""

QUESTIONS_AT_ONCE = 4
"""Questions that are put to the endpoint at a time."""


@dataclass(frozen=True, slots=True)
class ProposedTopics:
    """What a language model made of new texts: `kept` proposals became rows of the log.

    `dropped` counts the others by why. `failed` texts had no usable answer and are passed over.
    `waiting`: the endpoint could not be reached, `note` says why, and the rest waits.
    """

    users: int = 0
    texts: int = 0
    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    waiting: bool = False
    note: str = ""

    @property
    def proposed(self) -> int:
        """How many proposals there were."""
        return self.kept + sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class _Text:
    user: bytes
    digest: str
    kind: str
    time: int
    import_id: int
    text: str


def propose_topics(app: Limner, *, progress: Progress) -> ProposedTopics:
    """`Limner.propose_topics`."""
    facet = next((facet for facet in app.state.facets if isinstance(facet, Proposed)), None)
    if facet is None:
        raise UsageError(
            "no facet shows proposed topics", mend='add one of kind "proposed" to limner.toml'
        )
    if not app.config.llm.url:
        raise UsageError(
            "no language model is configured to propose topics",
            mend="set LIMNER_LLM_URL, such as http://localhost:8000/v1",
        )
    with app.proposing:
        start, stop = int(app.store.get_meta(READ_UP_TO) or 0), app.state.position
        done = ProposedTopics()
        for first, upto, users in _new(app, facet, start, stop):
            progress("texts", first - start, stop - start)
            done = _read(app, facet, users, first, upto, done)
            if done.waiting:
                break
            with app.store.transaction():
                app.store.set_meta(READ_UP_TO, str(upto))
        else:
            progress("texts", stop - start, stop - start)
        return done


def _new(
    app: Limner, facet: Proposed, start: int, stop: int
) -> Iterator[tuple[int, int, set[bytes]]]:
    """(from, up to, users): pieces of the log, and who wrote something there."""
    first, users = start, set[bytes]()
    for position, batch in app.store.log.read(start, stop):
        codes, names = batch.codes("user_id")
        wrote = codes[_with_text(batch, facet)]
        found = {names[code] for code in np.unique(wrote[wrote >= 0]).tolist()}
        users |= {app.writer.amendments.user(user) for user in found}
        upto = position + len(batch)
        if len(users) >= USERS_AT_ONCE or upto >= stop:
            yield first, upto, users
            first, users = upto, set()


def _paths(facet: Proposed) -> list[str]:
    """The columns of users' own texts."""
    return [path for path in facet.config.texts if path.startswith(PROPERTY)]


def _with_text(batch: EventBatch, facet: Proposed) -> Bool:
    mask = np.zeros(len(batch), dtype=bool)
    for path in _paths(facet):
        if path in batch.table.column_names:
            mask |= batch.array(path).is_valid().to_numpy(zero_copy_only=False)
    return mask & batch.live()


def _read(
    app: Limner, facet: Proposed, users: set[bytes], first: int, upto: int, done: ProposedTopics
) -> ProposedTopics:
    """Put the texts of a piece of the log to the model, and record what holds."""
    texts = list(_texts(app, facet, users, first, upto)) if users else []
    questions = [
        some
        for _, mine in groupby(texts, key=lambda one: one.user)
        for some in _parts(list(mine), AT_ONCE)
    ]
    if not questions:
        return done
    answers = _answers(app, questions)
    unreached = [each for each in answers if isinstance(each, EndpointDown)]
    if len(unreached) == len(answers):
        error = unreached[0]
        return replace(done, waiting=True, note=f"{error.where} {error.what}".strip())
    rows: list[tuple[_Text, dict[str, Any]]] = []
    dropped = Counter(done.dropped)
    failed = 0
    for question, answer in zip(questions, answers, strict=True):
        if isinstance(answer, ModelError):
            failed += len(question)
            continue
        dropped.update(answer.dropped)
        for one in answer.kept:
            said = question[one.text]
            rows.append((said, _row(app, said, one.topic, one.stance)))
    kept = _record(app, rows)
    return replace(
        done,
        users=done.users + len({one.user for one in texts}),
        texts=done.texts + len(texts),
        kept=done.kept + kept,
        dropped=dict(dropped),
        failed=done.failed + failed,
    )


def _texts(
    app: Limner, facet: Proposed, users: set[bytes], first: int, upto: int
) -> Iterator[_Text]:
    """What these users wrote in a piece of the log and may be read, without ids; by user."""
    path = f"{facet.config.section}.{facet.name}"
    found: list[tuple[bytes, int, int, _Text]] = []
    for positions, rows in app.writer.meant.read(app.state.position, users=users):
        new = (positions >= first) & (positions < upto)
        positions, rows = positions[new], rows.take(new)
        with app.writer.lock:
            events = events_in(app.state, rows, positions)
            mask = events.where(facet.config.where)
            said: dict[int, list[str]] = {}
            for index, texts in texts_of(events, _paths(facet), mask):
                for row, text in zip(index.tolist(), texts, strict=True):
                    if text.strip():
                        said.setdefault(row, []).append(text)
        if not said:
            continue
        chosen = sorted(said)
        part = rows.take(chosen).to_pylist()
        for row, event in zip(chosen, part, strict=True):
            if not event["user_id"]:
                continue
            one = _Text(
                event["user_id"], event["digest"].hex(), event["event_type"], event["timestamp"],
                event["import_id"] or 0, "\n".join(said[row]),
            )  # fmt: skip
            found.append((one.user, one.time, int(positions[row]), one))
    found.sort(key=lambda each: each[:3])
    for user, mine in groupby((one for *_, one in found), key=lambda one: one.user):
        with app.writer.lock:
            since = choices_of(app.state, app.state.rows.get(user, -1)).since(path)
        members = app.writer.amendments.members(user)
        ids = [own for member in members if (own := app.own_id(member)) is not None]
        for one in mine:
            if ids and since is not None and one.time > since:
                yield replace(one, text=masked(one.text, ids))


def _answers(app: Limner, questions: Sequence[Sequence[_Text]]) -> list[Judged | ModelError]:
    """What became of each question; one that was not taken is put again if others were."""

    def put(question: Sequence[_Text]) -> Judged | ModelError:
        try:
            return proposed(app.config.llm, [(one.kind, one.text) for one in question])
        except ModelError as error:
            return error

    with ThreadPoolExecutor(QUESTIONS_AT_ONCE) as threads:
        out: list[Judged | ModelError] = []
        for some in _parts(questions, QUESTIONS_AT_ONCE):
            out += threads.map(put, some)
            if all(isinstance(answer, EndpointDown) for answer in out):
                return out  # it is down: there is no use in asking on
        again = [n for n, answer in enumerate(out) if isinstance(answer, EndpointDown)]
        for n, answer in zip(again, threads.map(put, [questions[n] for n in again]), strict=True):
            out[n] = answer
    return out


def _parts(of: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (of[start : start + size] for start in range(0, len(of), size))


def _row(app: Limner, said: _Text, topic: str, stance: float) -> dict[str, Any]:
    model = app.config.llm.model
    return {
        "event_type": TOPIC,
        "timestamp": said.time,
        "event_id": f"{said.digest} {stance:g} {model} {topic}",  # to say it again adds nothing
        "value": stance,
        "properties": {
            PROPOSED: topic, RESTS_ON: said.digest, RESTS_ON_TYPE: said.kind, "model": model,
        },
    }  # fmt: skip


def _record(app: Limner, rows: Sequence[tuple[_Text, dict[str, Any]]]) -> int:
    """Record rows whose texts are still there, each with the import of its text; how many."""
    kept = 0
    with app.writer.commit_lock:  # nobody is erased between the look and the row
        there: dict[bytes, set[str]] = {}
        owners: dict[bytes, str | None] = {}
        of_import: dict[int, list[dict[str, Any]]] = {}
        for said, row in rows:
            if said.user not in there:
                owners[said.user] = app.own_id(said.user)
                _, batch = app.writer.meant.events_of(said.user)
                digests = batch.take(batch.live()).array("digest").to_pylist()
                there[said.user] = {digest.hex() for digest in digests}
            if owners[said.user] is not None and said.digest in there[said.user]:
                told = {"user_id": owners[said.user], **row}
                of_import.setdefault(said.import_id, []).append(told)
        for import_id, every in of_import.items():
            kept += app.record(every, source="limner", import_id=import_id).added
    return kept
