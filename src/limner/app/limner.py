"""The object that an application holds: a store opened, and its parts wired together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from uuid import uuid4

import numpy as np

from limner import config as configuration
from limner.app import (
    asking,
    encoding,
    intake,
    judged,
    learning,
    listing,
    people,
    preprocessing,
    proposing,
    quarantine,
    rebuilding,
    removal,
    topics,
    updating,
    vectors,
    versions,
    writing,
)
from limner.app.encoding import EncodedItems
from limner.app.exploring import Learning
from limner.app.intake import Imported
from limner.app.jobs import Jobs, jobs_of
from limner.app.learning import Trained
from limner.app.listing import Asked
from limner.app.people import Audience, Standing
from limner.app.preprocessing import CleaningReport
from limner.app.proposing import ProposedTopics
from limner.app.quarantine import Refusals
from limner.app.rebuilding import Backfill, Replayed
from limner.app.relearning import Relearning
from limner.app.removal import ERASED_SINCE, Erased, Expired
from limner.app.updating import Updated
from limner.app.versions import Models
from limner.catalog.cache import Note, VectorCache
from limner.catalog.known import Content
from limner.config import Config
from limner.errors import ConfigError, LimnerError, NotFound, StoreError
from limner.events.arrays import give_back
from limner.events.batch import Event
from limner.events.log import Position
from limner.events.meant import Amendments
from limner.events.norms import Norms
from limner.events.raw import ALIAS, DELETE_ITEM, ITEM, USER, Refused
from limner.explain.parameters import Parameters, parameters
from limner.explain.slots import SlotExplained
from limner.explain.why import Why
from limner.model import registry
from limner.model.protocol import History, Interactions, ItemFeatures, Progress
from limner.model.registry import Act, Difference
from limner.privacy.erasable import Erasable
from limner.privacy.keys import Keys
from limner.profile import facets, portrait
from limner.profile.changes import KINDS, Change, Changes, Subscription
from limner.profile.choices import Choices, choices_of, declared
from limner.profile.facet import Slot, duration
from limner.profile.facets.taste import InterestVector
from limner.profile.facets.vector import VECTOR, UserVector
from limner.profile.follow import Following
from limner.profile.interaction import Interaction
from limner.profile.merge import NEVER
from limner.profile.population import Population
from limner.profile.portrait import Portrait, SlotThen
from limner.profile.refresh import Refresh
from limner.profile.shown import shown_of
from limner.profile.snapshot import Snapshots
from limner.profile.snapshot_files import Arrays
from limner.profile.state import ProfileState
from limner.profile.survey import survey
from limner.profile.topics import TopicModel
from limner.profile.writer import Recorded, Writer
from limner.recommend.attribution import Attribution
from limner.recommend.crowd import renew as renew_crowd
from limner.recommend.rank import Recommendations
from limner.recommend.scorer import Scorer, history_of
from limner.recommend.similar import By, SimilarItems
from limner.sources import payloads
from limner.sources import rows as given_rows
from limner.sources.columns import Kind
from limner.stores import Store, open_store

if TYPE_CHECKING:
    from limner.app.labels import Fitted
    from limner.evaluate.next_basket import Report
    from limner.model.blend import Blend
    from limner.model.label import Epoch, LabelConfig

SNAPSHOT_EVERY = 1_000_000
"""Rows after which a new snapshot is written while recording, at the least: a second or two of
folding. With many users, who make it dearer, it is a row a user."""

AT_ONCE = 50_000
"""Users up to whom a start surveys them before it is done: half a second."""

_log = logging.getLogger(__name__)


def quiet(stage: str, done: int, total: int) -> None:
    """The progress of somebody who does not want to see any."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A portrait without a vector, and what that is made of."""

    seen: Portrait
    history: History
    state: ProfileState
    removals: int
    shown: Mapping[str, Sequence[Slot]]


class Limner:
    """A store opened: record events, read portraits, recommend, explain, erase."""

    def __init__(
        self, config: Config, store: Store, keys: Keys, *, clock: Callable[[], int]
    ) -> None:
        self.config = config
        self.store = store
        self.keys = keys
        self._clock = clock
        state = ProfileState(
            facets.build(config.facet),
            timezone=config.timezone,
            lateness=int(duration(config.lateness, "lateness")),
            labels=facets.labels(config.facet),
        )
        self.writer = Writer(
            log=store.log,
            identities=store.identities,
            quarantine=store.quarantine,
            transaction=store.transaction,
            keys=keys,
            policy=config.privacy,
            rules=config.clean,
            state=state,
            norms=Norms(),
            clock=clock,
        )
        home = store.home
        self.snapshots = Snapshots(home / "state" if home else None, store.get_meta("log") or "")
        self.population = Population()
        judged.attach(self)
        policies = {
            facet.name: Refresh.parse(facet.refresh, f"facet {facet.name!r}")
            for facet in config.facet
        }
        policies[VECTOR] = Refresh.parse(config.train.vector, "train.vector")
        self.following = Following(
            self.writer,
            store,
            policies,
            config.changes,
            population=lambda: self.population,
            now=self.now,
            more=[UserVector(partial(vectors.seen, self))],
            audiences=config.audiences,
        )
        self._snapshot_at: Position = 0
        self._from_snapshot = False
        self.relearning = Relearning(self)
        self.exploring = Learning(self)
        self._scorer: Scorer | None = None
        self.learning = threading.Lock()
        self.publishing = threading.Lock()
        """Held by who puts a version to use, and while one is made to forget a user."""
        self._loading = threading.Lock()
        self._refused = ""  # a version whose files were altered
        self.content: Content | None = None
        self.vector_cache: VectorCache | None = None
        self.encoding = threading.Lock()
        self.proposing = threading.Lock()
        self.encoded_up_to = -1
        self.backfill: Backfill | None = None
        self._closed = False
        self._received = 0
        self._receiving = threading.Lock()

    # -- opening and closing -----------------------------------------------------------------

    @classmethod
    def open(
        cls,
        url: str = "",
        *,
        domain: str = "",
        config: Config | Path | None = None,
        write: bool = True,
        holder: str = "limner",
        clock: Callable[[], int] | None = None,
        wait: bool = False,
        progress: Progress = quiet,
    ) -> Limner:
        """Open a store, made on first use, and bring the portraits up to its log (law 3).

        `url` and `domain` go over the configuration's. Without `write` the store must exist and
        nothing is changed: many may read beside one writer. `clock` gives the time in µs. If
        facets were defined otherwise when the store was last open, the portraits are as they
        were until they are built anew in the background (`backfill`), or with `wait` before
        this returns.
        Raises StoreBusy, KeyMissing, ConfigError.
        """
        settings = config if isinstance(config, Config) else configuration.load(config)
        if url or domain:
            settings = (
                configuration.load(
                    config if isinstance(config, Path) else None, store=url, domain=domain
                )
                if not isinstance(config, Config)
                else replace(
                    settings, store=url or settings.store, domain=domain or settings.domain
                )
            )
        if not settings.facet:
            raise ConfigError(
                "this Config has no facets", mend="make it with limner.config.load or parse"
            )
        settings = judged.with_labels(settings)
        store = open_store(settings.store, write=write, holder=holder)
        try:
            keys = _keys(settings, store, write=write)
            app = cls(settings, store, keys, clock=clock or _wall)
            app._recover(progress, write=write, in_background=write and not wait)
            if write:
                app.following.attach()
            if write and app.backfill is None:
                rebuilding.remember(app)
        except BaseException:
            store.close()
            raise
        app.writable = write
        if app.backfill is not None:
            app.backfill.start()
        if write and app.relearning.due and app._from_snapshot:
            app.relearning.begin()
        return app

    writable: bool = True

    def _recover(self, progress: Progress, *, write: bool, in_background: bool) -> None:
        if write:
            self.snapshots.claim()
        topics.load(self)
        encoding.load(self)
        # whoever only looks at a user or two need not read all of it to see whether it is sound
        loaded = self.snapshots.load(self.state, self.store.log.head(), verify=write)
        if loaded is None and in_background:
            loaded = self._as_before()
        self._from_snapshot = loaded is not None
        if loaded is not None:
            self.population, kept = loaded
            self.writer.norms = Norms.from_arrays(kept)
            self.writer.amendments = Amendments.from_arrays(kept)
        encoding.apply(self)  # the state as before has facets of its own
        self._snapshot_at = self.state.position
        self.writer.catch_up(lambda done, total: progress("replay", done, total))
        other = self.population.config != self.config.population
        # a survey of a million users takes longer than all else: until then the last one will do
        later = loaded is not None and len(self.state) > AT_ONCE
        if later and write and self._outgrown:
            threading.Thread(target=self._survey_beside, daemon=True).start()
        elif loaded is None or other or (self._outgrown and not later):
            self.refresh_population()

    def _survey_beside(self) -> None:
        try:
            self.refresh_population()
        except Exception:  # the next survey, and whoever asks for one, says it too
            _log.exception("the population could not be surveyed")

    def _as_before(self) -> tuple[Population, Arrays] | None:
        """Load the portraits as they were defined before, and have them built anew."""
        before, now = rebuilding.served(self), rebuilding.Definition.of(self.config)
        changed = [] if before is None else now.changed(before)
        if before is None or not changed:
            return None
        new = self.state

        def empty() -> ProfileState:
            out = self.state.anew(new.facets)
            out.timezone, out.lateness = new.timezone, new.lateness
            return out

        try:
            lateness = int(duration(before.lateness, "lateness"))
            old = ProfileState(
                before.facets(), timezone=before.timezone, lateness=lateness, labels=new.labels
            )
            loaded = self.snapshots.load(old, self.store.log.head())
        except ConfigError:
            return None  # a facet that this version does not know: there is nothing to serve
        if loaded is not None:
            self.writer.state = old
            self.backfill = Backfill(self, changed, empty)
        return loaded

    def replay(
        self,
        *,
        start: Position = 0,
        stop: Position | None = None,
        swap: bool = False,
        progress: Progress = quiet,
    ) -> Replayed:
        """Build the portraits anew from the log, and say where the live ones differ (law 3).

        The whole log by default; with `start` and `stop` those users who have rows there, from
        all of their rows. None should differ: integers, keys and times exactly, floats by no
        more than rounding. With `swap` what was built takes the place of what was there.
        Raises UsageError for positions that are not in the log.
        """
        return rebuilding.replay(self, start=start, stop=stop, swap=swap, progress=progress)

    def close(self) -> None:
        """Write a snapshot if there is news, and let the store go."""
        if self._closed:
            return
        self._closed = True
        if self.backfill is not None:
            self.backfill.stop()
        self.relearning.stop()
        if self.writable:
            self.following.close()
            written = self.snapshots.join() and self.state.position == self._snapshot_at
            if not written and self.state.position and not self.writer.broken:
                self.save_snapshot()
            if not self.writer.broken:
                self.relearning.kept()
            self.store.seal()
        if self.vector_cache is not None:
            self.vector_cache.close()
        self.store.close()

    def __enter__(self) -> Limner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def state(self) -> ProfileState:
        """The live state of all users."""
        return self.writer.state

    def now(self) -> int:
        """The present, µs: the wall clock, or with `clock = "events"` the newest event's time."""
        if self.config.clock == "events" and self.state.newest_event != NEVER:
            return self.state.newest_event
        return self._clock()

    def received(self) -> int:
        """A time of receipt, µs: no two are the same, so that two events never look like one."""
        with self._receiving:
            self._received = max(self._clock(), self._received + 1)
            return self._received

    def save_snapshot(self, *, wait: bool = True) -> None:
        """Write the state beside the log, so that the next start is quick.

        Without `wait` in the background, unless one is being written: then the next one will do.
        """
        turn = self.writer.commit_lock if wait else self.writer.commit_lock.leaving()
        with turn, self.writer.lock:
            if self.writer.broken:
                raise StoreError(
                    "the portraits are half folded, so no snapshot of them is kept",
                    mend="open the store anew; if that fails too, undo the last import",
                )
            kept = self.writer.norms.arrays() | self.writer.amendments.arrays()
            if self.snapshots.save(self.state, self.population, kept, wait=wait):
                self._snapshot_at = self.state.position

    def keep_start_quick(self) -> None:
        """Begin a snapshot in the background if so many rows came since the last one.

        A start folds what came since, so this bounds its time whatever kills the process.
        """
        due = max(SNAPSHOT_EVERY, len(self.state))
        if self.state.position - self._snapshot_at > due and not self.snapshots.busy:
            self.save_snapshot(wait=False)

    def refresh_population(self) -> None:
        """Take stock of all users: percentiles, tiers, quintiles, clusters, shares of everybody.

        Readers and the writer go on meanwhile: the lock is taken for a chunk of users at a time.
        """
        self.population = survey(
            self.state, self.now(), self.config.population, lock=self.writer.lock
        )

    def renew_population(self) -> None:
        """Take stock if the log has grown by a fifth since that was done last."""
        if self._outgrown:
            self.refresh_population()

    @property
    def _outgrown(self) -> bool:
        return self.state.position > 1.2 * self.population.position

    # -- taking in ---------------------------------------------------------------------------

    def record(
        self, events: Any, *, source: str = "api", kind: Kind = "events", import_id: int = 0
    ) -> Recorded:
        """Record events, durably, and fold them into the portraits before returning.

        `events` is any iterable of mappings, a pyarrow Table, a DataFrame, or the path of a
        file; a mapping without a time happens now. An event seen before changes nothing;
        refused ones are in quarantine (`refused`).
        """
        return intake.record(self, events, source=source, kind=kind, import_id=import_id)

    def put_item(
        self, item_id: str, attributes: Mapping[str, Any], at: int | None = None
    ) -> Recorded:
        """Say what an item is, from `at` (µs, now by default) on; the first version from ever."""
        return self._put(ITEM, {"item_id": item_id}, attributes, at)

    def put_user(
        self, user_id: str, attributes: Mapping[str, Any], at: int | None = None
    ) -> Recorded:
        """Say what is declared of a user; attributes not named keep what was said before."""
        return self._put(USER, {"user_id": user_id}, attributes, at)

    def choices(self, user_id: str) -> Choices:
        """What a user chose of their own portrait. Raises NotFound for an unknown user."""
        with self.writer.lock:
            return choices_of(self.state, self.known_row(user_id))

    def choose(
        self,
        user_id: str,
        *,
        personalised: bool | None = None,
        off: Iterable[str] = (),
        on: Iterable[str] = (),
        wrong: Iterable[str] = (),
        right: Iterable[str] = (),
    ) -> Choices:
        """Record choices of a user, durably, and return all that hold.

        Slots ("section.name") are turned `off` and `on` again, or marked `wrong`, which leaves them
        out until something new supports them, and `right` again. Without `personalised` lists are
        what is popular, trending and new. Raises UsageError for what is no slot's name.
        """
        said = declared(
            self.state.facets, personalised=personalised, off=off, on=on, wrong=wrong, right=right
        )
        if said:
            self.put_user(user_id, said)
        return self.choices(user_id)

    def delete_item(self, item_id: str) -> Recorded:
        """Take an item out of all recommendations; what was done with it stays."""
        return self._put(DELETE_ITEM, {"item_id": item_id}, {}, None)

    def alias(self, previous_id: str, user_id: str) -> Recorded:
        """Say that an id used before, of a visitor not yet known, was this user's.

        The history of the former joins the user's, as if it had been theirs from the start, and
        what it does later is theirs too. Refused (see `refused`) if it belongs to another user.
        """
        row = {"user_id": user_id, "target_user_id": previous_id, "event_type": ALIAS}
        return self.record([row])

    def _put(
        self, kind: str, who: Mapping[str, str], attributes: Mapping[str, Any], at: int | None
    ) -> Recorded:
        moment = self.now() if at is None else at
        row = {**who, "event_type": kind, "timestamp": moment, "properties": dict(attributes)}
        if at is None:  # said now, so not the same as when it was said before
            row["event_id"] = uuid4().hex
        return self.record([row], source="api")

    def import_file(
        self,
        path: str | Path | Any,
        *,
        kind: Kind = "events",
        columns: Mapping[str, str] | None = None,
        constants: Mapping[str, str] | None = None,
        source: str = "file",
        where: str | None = None,
        progress: Progress = quiet,
    ) -> Imported:
        """Import a file (or table) through the same path as live events.

        Importing the same rows again changes nothing, so an import that was interrupted is
        simply started again. Undo it with `undo_import(imported.entry.import_id)`.
        """
        imported = intake.import_file(
            self,
            path,
            kind=kind,
            columns=columns or {},
            constants=constants or {},
            source=source,
            where=where,
            progress=progress,
        )
        give_back()  # only now nothing holds the last rows
        return imported

    def undo_import(self, import_id: int, *, progress: Progress = quiet) -> int:
        """Take back what an import brought, as if it had never been; return how many rows.

        The same file may then be imported again. Raises NotFound for an unknown import.
        """
        return removal.undo_import(self, import_id, progress=progress)

    def _rebuild(self, progress: Progress) -> None:
        """The state anew from the log: after what no merge can do to many users."""
        self.writer.rebuild(lambda done, total: progress("replay", done, total))
        self._renewed()

    def _renewed(self) -> None:
        """Go on with a state that took the place of another."""
        topics.load(self)
        self.refresh_population()
        with self.writer.lock:  # the model stays; its items have other numbers now
            self._scorer = self._scorer and self._scorer.over(self.state.catalog)
        self.following.again()
        self.save_snapshot()

    # -- models ------------------------------------------------------------------------------

    def training_data(self, before: int | None = None) -> tuple[Interactions, ItemFeatures]:
        """All interactions of the log (before a time), and the items' attributes."""
        return learning.training_data(self, before)

    def train(
        self,
        *,
        cutoff: int | None = None,
        validation_cutoff: int | None = None,
        start: str = "",
        progress: Progress = quiet,
    ) -> Trained:
        """Fit the models, measure their blend, let it learn the rest, and put it to use.

        The measurement (`evaluation`) is honest: what is measured has seen nothing from the
        cutoff on (by default the last tenth of the events). A log too short to be split is
        learned from as a whole, unmeasured. With `start`, a version of this store or the folder
        of another's, the sequence model starts from what was learned there, and takes its shape.
        Raises NotFound or ModelError if that cannot be read.
        """
        with learning.alone(self):
            return learning.train(
                self,
                cutoff=cutoff,
                validation_cutoff=validation_cutoff,
                start=start,
                progress=progress,
            )

    def update(self, *, progress: Progress = quiet) -> Updated:
        """Learn what came since the version in use, and put it to use if the gate lets it.

        The candidate is judged on the newest events before it has learned them (`train.gate`).
        Before that, the version in use gives way to the one before it if that has been better
        since. Raises ModelError without a trained model, UsageError for a store in memory or
        while a training is under way.
        """
        with learning.alone(self):
            return updating.update(self, progress=progress)

    def models(self) -> Models:
        """The versions there are, which one is in use, and what became of candidates."""
        return versions.models(self)

    def promote(self, version: str) -> Act:
        """Put another version to use. Raises NotFound, or ModelError if it was altered."""
        return versions.promote(self, version)

    def roll_back(self) -> Act:
        """Go back to the version that the present one took the place of. Raises UsageError."""
        return versions.roll_back(self)

    def model_diff(self, a: str, b: str) -> Difference:
        """In what two versions differ: settings, data, weights, metrics, items."""
        return versions.diff(self, a, b)

    def evaluation(self) -> Report | None:
        """What was measured of the model in use before it learned the rest."""
        from limner.evaluate.next_basket import Report

        home = self.store.home
        version = registry.current_version(home) if home is not None else None
        measured = version.meta.get("evaluation") if version is not None else None
        return Report.from_json(measured) if measured else None

    def evaluate(
        self,
        *,
        cutoff: int | None = None,
        validation_cutoff: int | None = None,
        progress: Progress = quiet,
    ) -> Report:
        """How good the lists are: fit before a cutoff, ask for what came after it (law 4)."""
        return learning.evaluate(
            self, cutoff=cutoff, validation_cutoff=validation_cutoff, progress=progress
        )

    def scorer(self) -> Scorer | None:
        """The trained blend in use, the newest published one; None before the first training."""
        home, held = self.store.home, self._scorer
        version = registry.current(home) if home is not None else None
        if home is None or version is None or (held is not None and held.version == version):
            return held
        # one thread loads it; whoever asks meanwhile is answered by the version there is
        if not self._loading.acquire(blocking=held is None):
            return held
        try:
            held = self._scorer
            if held is None or version not in (held.version, self._refused):
                self._load(home, version)
        except (LimnerError, OSError) as error:
            if held is None:
                raise
            self._refused = version
            _log.error("version %s is not used, %s stays: %s", version, held.version, error)
        finally:
            self._loading.release()
        return self._scorer

    def warm(self) -> None:
        """Make what the first requests would have to: the model, items' vectors, the first list."""
        self.scorer()
        with self.writer.lock:
            for facet in self.state.facets:
                if isinstance(facet, InterestVector):
                    catalog = self.state.catalog
                    facet.vectors_of(catalog, np.arange(len(catalog), dtype=np.int32), self.now())
        with suppress(LimnerError):  # a list that cannot be made is told to whoever asks for it
            listing.for_session(self, [], [], scenario="", by=None, n=None, explain=False, asked={})

    def keep_warm(self) -> None:
        """Count anew what all users say of the items before a request has to, beside others."""
        renew_crowd(self.state, self.now(), self.writer.lock)

    def _load(self, home: Path, version: str) -> None:
        found = registry.version_of(home, version)
        blend = registry.load(found)
        with self.writer.lock:
            self._scorer = self._scoring(blend, found.meta["item_ids"], version)

    def _scoring(self, blend: Blend, item_ids: Sequence[str], version: str) -> Scorer:
        """A blend under the ids of the state's catalog; the caller holds the writer's lock."""
        memory = self.config.states_mb << 20
        return Scorer(blend, item_ids, self.state.catalog, version, self.content, memory=memory)

    def _here(self, scorer: Scorer | None) -> Scorer | None:
        """Under the writer's lock: the scorer under the ids of the state as it is now."""
        if scorer is None or scorer.catalog is self.state.catalog:
            return scorer
        return scorer.over(self.state.catalog)

    # -- answering ---------------------------------------------------------------------------

    def _row(self, user_id: str) -> int:
        return self.state.rows.get(self.user(user_id), -1)

    def user(self, user_id: str) -> bytes:
        """The pseudonym under which a user's events are, that of the user an id is linked to."""
        return self.writer.amendments.user(self.keys.pseudonym(user_id))

    def known_row(self, user_id: str) -> int:
        """The user's row. Raises NotFound for a user without any event or attribute."""
        row = self._row(user_id)
        if row < 0:
            raise NotFound(
                f"user {user_id!r} is not known",
                mend="check the id; a user is known from the first event or attribute on",
            )
        return row

    def portrait(
        self,
        user_id: str,
        *,
        at: int | None = None,
        known_at: Position | None = None,
        vector: bool = True,
        written: str = "",
    ) -> Portrait:
        """What is known of a user now, or as of event time `at`, or as told by `known_at`.

        A portrait of the past says nothing of all users: percentiles, tiers and shares against
        everybody are left out, and so is the model's vector; refresh policies do not matter to it,
        while the slots of a present one may be those of their last refresh. Without `vector` no
        model is loaded for it. With `written` ("en", "zh") it is said in a few sentences too.
        Raises NotFound for an unknown user, UsageError for another language.
        """
        past = at is not None or known_at is not None
        found = self._portrait(user_id, at=at, known_at=known_at)
        [seen] = self._with_vectors([found]) if vector and not past else [found.seen]
        return replace(seen, written=writing.written(self, seen, written)) if written else seen

    def portraits(self, user_ids: Sequence[str]) -> list[Portrait | Exception]:
        """The present portraits of several, whose histories the model reads together.

        Each fails alone: in its place stands what `portrait` raises, NotFound of an unknown user.
        """
        out: list[Portrait | Exception] = []
        known: dict[int, _Seen] = {}
        for place, user_id in enumerate(user_ids):
            try:
                known[place] = self._portrait(user_id, at=None, known_at=None)
                out.append(known[place].seen)
            except Exception as error:
                out.append(error)
        for place, seen in zip(known, self._with_vectors(list(known.values())), strict=True):
            out[place] = seen
        return out

    def _portrait(self, user_id: str, *, at: int | None, known_at: Position | None) -> _Seen:
        past = at is not None or known_at is not None
        shown = shown_of(self.store.shown, self.user(user_id), () if past else self.following.kept)
        with self.writer.lock:
            row = self.known_row(user_id)
            choices = choices_of(self.state, row)  # of now, also in the past
            state, now, everybody = self.state, self.now(), self.population
            if past:
                now = at if at is not None else now
                state = self.writer.as_of(self.keys.pseudonym(user_id), now, known_at)
                row = 0 if len(state) else -1
                everybody = Population()  # other users' later events may not show through (law 4)
            seen = portrait.read(
                state, row, everybody, now, user_id=user_id, shown=shown, choices=choices
            )
            seen = asking.with_own_ids(self, seen)
            return _Seen(seen, history_of(state, row, now), state, state.removals, shown)

    def _with_vectors(self, found: Sequence[_Seen]) -> list[Portrait]:
        """Present portraits with the vector of the model in use: as it is kept, or read now."""
        out = [each.seen for each in found]
        scorer = self.scorer()
        if scorer is None:
            return out
        asked: list[int] = []
        with self.writer.lock:
            here = self._here(scorer) or scorer
            for place, each in enumerate(found):
                if not len(each.history):
                    continue
                if (kept := vectors.kept(each.shown, here.version)) is not None:
                    out[place] = replace(
                        each.seen, vector=kept.value, model=kept.model, vector_at=kept.refreshed_at
                    )
                elif each.state is self.state:  # else rebuilt meanwhile, under other numbers
                    asked.append(place)
            if asked:
                here.enter()
        read = here.vectors([found[place].history for place in asked]) if asked else []
        if any(found[place].removals != self.state.removals for place in asked):
            here.let_go()  # somebody was erased meanwhile, of whom something may be kept again
        for place, u in zip(asked, read, strict=True):
            out[place] = replace(out[place], vector=u, model=here.version)
        return out

    def evidence(self, user_id: str, slot: str, *, limit: int = 20) -> list[Event]:
        """The newest events behind a slot, "section.name"; newest first.

        Raises NotFound for an unknown user or slot.
        """
        found = asking.slot_of(self, user_id, slot)
        facet = next(f for f in self.state.facets if f.name == found.facet)
        positions, batch = self.writer.meant.events_of(self.user(user_id))
        with self.writer.lock:
            rows = portrait.supporting(self.state, facet, batch, positions)
        newest = rows[np.lexsort((positions[rows], batch.times()[rows]))][::-1][:limit]
        return [
            replace(
                event,
                user_id=user_id,
                target_user_id=event.target_user_id and self.own_id(event.target_user_id),
            )
            for event in batch.take(newest).events(positions[newest])
        ]

    def explain_slot(self, user_id: str, slot: str, *, limit: int = 5) -> SlotExplained:
        """How a slot, "section.name", of the present portrait came to be.

        Its formula in plain words with the settings of its facet, its confidence with the numbers
        put in, its newest `limit` events, and what would change it. Raises NotFound for an unknown
        user or slot.
        """
        return asking.explain_slot(self, user_id, slot, limit=limit)

    def jobs(
        self, train: Callable[[], str] | None = None, update: Callable[[], str] | None = None
    ) -> Jobs:
        """What the configuration asks to be done at times.

        `train` and `update` take the place of the app's own.
        """
        return jobs_of(self, train, update)

    # -- items' content ----------------------------------------------------------------------

    def encode_items(self, *, progress: Progress = quiet) -> EncodedItems:
        """Turn items' text, images and sound into vectors, as far as they are new.

        Training does it first; models then know items that nobody has touched by what they say,
        and so do interest vectors. What is missing, empty or broken is noted for its item.
        """
        return encoding.encode(self, progress)

    def item_notes(self) -> list[Note]:
        """What was wrong with items' content when it was last encoded, by item."""
        return encoding.notes(self)

    # -- changes -----------------------------------------------------------------------------

    def changes(
        self,
        after: int = 0,
        *,
        limit: int = 100,
        kinds: Collection[str] | None = None,
        users: Collection[str] | None = None,
    ) -> Changes:
        """What changed after the change with the id `after`, oldest first.

        Of the next `limit` changes those of these kinds and of these user ids are in it. Go on
        with `changes(after=found.last)`. `missed` says that the bound (`changes.keep`) has let go
        of some that came between.
        """
        found = self.store.outbox.after(after, limit=limit)
        whose = None if users is None else {self.user(each).hex() for each in users}
        told = [
            replace(change, user_id=self.own_id(change.user))
            for change in found
            if (kinds is None or change.kind in kinds) and (whose is None or change.user in whose)
        ]
        last = found[-1].id if found else max(after, 0)
        newest = self.store.outbox.last()
        return Changes(told, last, newest, missed=after < self.store.outbox.dropped())

    def subscribe(
        self,
        callback: Callable[[Change], object] | None = None,
        *,
        kinds: Collection[str] = KINDS,
        after: int | None = None,
    ) -> Subscription:
        """Be told of changes after an id, or from now on: by iterating, or through `callback`.

        A callback is called in a thread of its own; what it raises is logged, and the next change
        goes on. `close` the subscription to end it.
        """
        since = self.store.outbox.last() if after is None else after
        out = Subscription(self.changes, self.following.news, since, kinds)
        if self.writable:
            self.following.start()
        if callback is not None:
            out.call(callback)
        return out

    def audience(self, where: str, *, index: str = "") -> Audience:
        """The users who meet a condition now, such as `value.spend > 100 and exists basic.age`.

        `index` names a slot of shares or texts, "section.name": what the audience leans to in it,
        by target-group index. Raises ExpressionError, with the column, for a condition that
        cannot be read, or that names or compares what it cannot.
        """
        return people.find(self, where, index)

    def standing(self) -> Standing:
        """The population as of its last survey, and how many are in each segment and tier."""
        return people.standing(self)

    def portrait_history(self, user_id: str, slot: str, *, limit: int = 30) -> list[SlotThen]:
        """What a slot, "section.name", was after each event that changed it, newest first.

        With more than `limit` such moments: after each day. From the log, so it is what would be
        said with all that is known now; shares against all users and price levels are against
        the users of the present. Raises NotFound for an unknown user or slot.
        """
        return asking.portrait_history(self, user_id, slot, limit=limit)

    def interaction(self, user_id: str, item_id: str) -> Interaction:
        """What ties a user to an item: strength, intervals, what goes together with it.

        From all their events in the log. Raises NotFound for an unknown user or item.
        """
        return asking.interaction_of(self, user_id, item_id)

    def topics(self) -> Mapping[str, TopicModel]:
        """The topics last learned, by the name of the facet that shows them."""
        return topics.known(self)

    def learn_topics(self, n: int = 12, *, seed: int = 0) -> Mapping[str, TopicModel]:
        """Learn `n` topics from the keywords of all users, for each facet of kind "topics".

        Raises UsageError if there is no such facet, ModelError if there is too little text,
        MissingExtra without scikit-learn.
        """
        return topics.learn_topics(self, n, seed=seed)

    def propose_topics(self, *, progress: Progress = quiet) -> ProposedTopics:
        """Let the language model that is configured read what users wrote since it last did, and
        propose topics that they are for or against; what their texts bear out becomes a slot.

        Raises UsageError without a model or a facet of kind "proposed". Never raises for what the
        endpoint does: what is `waiting` is read the next time.
        """
        return proposing.propose_topics(self, progress=progress)

    def fit_label(
        self,
        column: str,
        *,
        known: Any = None,
        features: Sequence[str] = (),
        categorical: Collection[str] = (),
        learn: LabelConfig | None = None,
        name: str = "",
        progress: Progress = quiet,
        told: Callable[[Epoch], object] = lambda epoch: None,
    ) -> Fitted:
        """Learn a label from the portraits of those whose label is known, to show it for all.

        Known by the declared attribute `column`, or by the table `known` of `user_id` and `column`.
        It is a slot of portraits from the next opening on (`basic.predicted_COLUMN`, or as the
        configuration says), and a new version of it at once. Raises UsageError for features that
        nobody has, ModelError if too few labels are known.
        """
        return judged.fit(
            self, column, known=known, features=features, categorical=categorical, learn=learn,
            name=name, progress=progress, told=told,
        )  # fmt: skip

    def own_id(self, pseudonym: str | bytes) -> str | None:
        """The product's own id behind a pseudonym (hexadecimal or bytes); None once erased."""
        raw = bytes.fromhex(pseudonym) if isinstance(pseudonym, str) else pseudonym
        sealed = self.store.identities.get(raw)
        return self.keys.unseal(sealed) if sealed else None

    @property
    def quarantine(self) -> Refusals:
        """The rows that were refused: to look at, to mend and readmit, or to give up."""
        return Refusals(self)

    def cleaning(self) -> CleaningReport:
        """What the rules of cleaning have touched so far, each with an example."""
        return preprocessing.cleaning(self)

    def disclosed(self, refused: Iterable[Refused]) -> list[Refused]:
        """Refused rows with the product's own user ids, for those who may see them."""
        return [quarantine.disclosed(self, row) for row in refused]

    def recommend(
        self,
        user_id: str,
        n: int | None = None,
        *,
        explain: bool = False,
        log: bool = False,
        by: str | Sequence[str] | None = None,
        scenario: str = "",
        **asked: Unpack[Asked],
    ) -> Recommendations:
        """The best items for a user now; with `explain` each with its parts' reasons.

        `by`: one family by itself, or several, instead of the blend (`families` names them).
        `scenario`: the settings under that name in the configuration, in place of `recommend`'s;
        `asked` goes over either. With `log` the list is recorded, durably, as one impression with
        the propensity of each item: events that carry its `recommendation_id` are then due to it
        (`attribution`), and what is passed over fades. A user without a history gets what is
        popular. Never raises for an unknown user; UsageError for an unknown family or scenario,
        ExpressionError for a condition that cannot be read.
        """
        return listing.recommend(
            self, listing.Wanted(user_id, n, explain, log, by, scenario, asked)
        )

    def why(
        self,
        user_id: str,
        item_id: str,
        *,
        by: str | Sequence[str] | None = None,
        scenario: str = "",
        **asked: Unpack[Asked],
    ) -> Why:
        """Why an item is in a user's list, or why not; the list is asked for as in `recommend`.

        Raises NotFound for an unknown user or item.
        """
        return listing.why_(self, user_id, item_id, scenario=scenario, by=by, asked=asked)

    def recommend_session(
        self,
        events: Iterable[Mapping[str, Any]],
        n: int | None = None,
        *,
        explain: bool = False,
        by: str | Sequence[str] | None = None,
        scenario: str = "",
        **asked: Unpack[Asked],
    ) -> Recommendations:
        """The best items for somebody without an id, by these events; nothing is recorded.

        Otherwise as `recommend`. In reasons, `events` are places among the events, from 1;
        `refused` has those that nothing can be told from, and why.
        """
        batches, unreadable = payloads.numbered_events(
            given_rows.numbered(events),
            where="recommend_session",
            now=self.now(),
            source="session",
        )
        return listing.for_session(
            self, batches, unreadable, scenario=scenario, by=by, n=n, explain=explain, asked=asked
        )

    def similar(
        self, item_id: str, n: int = 10, *, by: By = "alike", filter: str = ""
    ) -> SimilarItems:
        """The items most like an item ("alike"), or bought together with it ("together").

        Raises NotFound for an unknown item, ExpressionError for a condition that cannot be read.
        """
        return listing.similar_to(self, item_id, n, by, filter)

    def attribution(self) -> Attribution:
        """What became of the lists that were logged, by scenario."""
        return listing.attribution(self)

    def families(self) -> dict[str, dict[str, float]]:
        """The families that lists can be made by; of a trained one its weight in each task."""
        return listing.families(self)

    def parameters(self, scenario: str = "") -> Parameters:
        """The main parameters of lists in plain words, and how a user can change them.

        Raises UsageError for a scenario that is not configured.
        """
        return parameters(listing.settings(self, scenario, None, None, {}), self.families())

    # -- the data subject's rights -----------------------------------------------------------

    def erasables(self) -> tuple[Erasable, ...]:
        """Everything that keeps data of users (law 6)."""
        return (*self.store.erasables, self.state, self.snapshots, self.writer.amendments)

    def expire(self, *, progress: Progress = quiet) -> Expired:
        """Take out what is kept no longer: events by `retention`, and what `expires_at` ends.

        Events leave the log and the portraits, which are then as if they had never been; keyed
        digests stay, so that a re-import does not bring them back. Items leave the lists.
        """
        return removal.expire(self, progress=progress)

    def erase(self, user_id: str) -> Erased:
        """Remove a user from log, identity table, quarantine, state and snapshots, for good.

        The closed-form parts of the model in use forget the user too, in a new version, where its
        items are no more than some thousands; `model` of the receipt says which did.
        Keyed digests of the events stay, so that a re-import does not bring them back. Raises
        NotFound for an unknown user.
        """
        return removal.erase(self, user_id)

    def erased_since_training(self) -> int:
        """How many users were erased since the model in use learned from them."""
        return int(self.store.get_meta(ERASED_SINCE) or 0)

    def status(self) -> dict[str, Any]:
        """Numbers of interest: users, items, events, the model, what was refused."""
        scorer = self.scorer()
        return {
            "store": self.config.store,
            "users": len(self.state),
            "items": len(self.state.catalog),
            "position": self.state.position,
            "newest_event": self.state.newest_event if self.state.position else None,
            "refused": self.store.quarantine.counts(),
            "flagged": {
                rule: said.n for rule, said in self.writer.norms.touched().items() if said.n
            },
            "model": scorer.version if scorer else None,
            "erased_since_training": self.erased_since_training(),
            "backfill": rebuilding.progress_of(self),
            "schedule": self.jobs().runs(),
        }


def _wall() -> int:
    return time.time_ns() // 1_000


def _keys(config: Config, store: Store, *, write: bool) -> Keys:
    """The keys of a store: made for a new one, else loaded and checked against it."""
    path = config.key_path()
    if path is None:
        return Keys.generate()
    if store.fresh and write and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = Keys.create(path)
    else:
        keys = Keys.load(path)
    known = store.get_meta("keys")
    if known is None and write:
        with store.transaction():
            store.set_meta("keys", keys.key_fingerprint)
            store.set_meta("log", f"{keys.key_fingerprint}-{time.time_ns():x}")
    elif known is not None:
        keys.require(known, path)
    return keys
