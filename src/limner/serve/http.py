"""The HTTP API: FastAPI, thin over `app`.

Whatever touches the app is a plain function, so it runs in the thread pool and requests that
arrive together are committed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, cast

from fastapi import APIRouter, Body, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from limner import __version__
from limner.app import Erased, Jobs, Limner, listing
from limner.app.listing import Asked, Wanted
from limner.errors import LimnerError, NotFound
from limner.events.raw import RefusedEvent
from limner.explain.slots import SlotExplained
from limner.explain.why import Why
from limner.profile.portrait import Portrait
from limner.profile.writer import Recorded
from limner.recommend.attribution import Attribution
from limner.recommend.rank import Recommendations
from limner.recommend.similar import By, SimilarItems
from limner.serve import audiences, choosing, cleaning, hooks, models, onlookers, stream, times
from limner.serve.answers import (
    Accepted,
    Evidence,
    Live,
    Ready,
    SlotHistory,
    TopicsInUse,
)
from limner.serve.background import Trainer
from limner.serve.bounds import Bounds
from limner.serve.door import Door, Known
from limner.serve.gather import Full
from limner.serve.lots import lots_of
from limner.serve.metrics import Measures
from limner.serve.once import Once
from limner.serve.openapi import DESCRIPTION, EVENTS_BODY, PROBLEMS, answers, document
from limner.serve.problems import of_error, of_status, problem
from limner.serve.requests import (
    Attributes,
    InTraining,
    ItemId,
    Listing,
    Lots,
    RawBody,
    Shop,
    UserId,
    json_answer,
)
from limner.serve.scopes import Scoped
from limner.serve.seen import Routed
from limner.serve.wire import moment
from limner.sources.payloads import parse_events

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS)
health = APIRouter(prefix="/health", tags=["operations"])

# -- taking in -------------------------------------------------------------------------------


@router.post(
    "/events",
    tags=["events"],
    summary="Record events",
    openapi_extra=EVENTS_BODY,
    responses=answers(Accepted),
)
async def post_events(lots: Lots, request: Request, body: RawBody) -> Response:
    """Record one event, a list, or one a line, and fold them into the portraits.

    Answers when they are on disk. An event seen before changes nothing. Refused events do not
    stop the others; if all are refused the answer is a problem with status 422.
    """
    kind = request.headers.get("content-type", "")
    return _accepted([await lots.events((body, kind), len(body))])


@router.put(
    "/items/{item_id}",
    tags=["catalog"],
    summary="Say what an item is",
    responses=answers(Accepted),
)
def put_item(app: Shop, item_id: ItemId, attributes: Attributes) -> Response:
    """A new version of an item, valid from now on; the first one is valid from ever."""
    return _accepted([app.put_item(item_id, attributes)])


@router.delete(
    "/items/{item_id}",
    tags=["catalog"],
    summary="Take an item out of all lists",
    responses=answers(Accepted),
)
def delete_item(app: Shop, item_id: ItemId) -> Response:
    """The item is recommended no more; what was done with it stays in the portraits."""
    if app.state.catalog.ids.code(item_id) < 0:
        raise NotFound(f"item {item_id!r} is not known", mend="check the id")
    return _accepted([app.delete_item(item_id)])


@router.put(
    "/users/{user_id}",
    tags=["users"],
    summary="Declare attributes of a user",
    responses=answers(Accepted),
)
def put_user(app: Shop, user_id: UserId, attributes: Attributes) -> Response:
    """Attributes that are not named keep what was said before; the last word counts."""
    return _accepted([app.put_user(user_id, attributes)])


@router.put(
    "/users/{user_id}/alias",
    tags=["users"],
    summary="Link an id used before to a user",
    responses=answers(Accepted),
)
def put_alias(
    app: Shop,
    user_id: UserId,
    previous_id: Annotated[
        str, Body(embed=True, description="The id used before.", examples=["visitor-8f2"])
    ],
) -> Response:
    """The history of the id before, of a visitor not yet known, joins the user's.

    What it does later is the user's too. Refused if it belongs to another user.
    """
    return _accepted([app.alias(previous_id, user_id)])


def _accepted(parts: Sequence[Recorded]) -> Response:
    added, repeated = sum(part.added for part in parts), sum(part.repeated for part in parts)
    rows = [row for part in parts for row in part.refused]
    refused = [RefusedEvent(row.line, row.rule, row.reason) for row in rows]
    refused.sort(key=lambda row: row.line)
    if refused and not added and not repeated:
        return problem(
            422,
            "Every event was refused",
            refused[0].reason,
            kind="urn:limner:error:all-refused",
            mend="see `refused`, and limner quarantine",
            refused=refused,
        )
    as_of = max((part.as_of for part in parts), default=0)
    return json_answer(Accepted(added, repeated, refused, as_of))


# -- answering -------------------------------------------------------------------------------


@router.get(
    "/users/{user_id}/portrait",
    tags=["users"],
    summary="The portrait of a user",
    responses=answers(Portrait),
)
async def get_portrait(
    app: Shop,
    lots: Lots,
    user_id: UserId,
    at: Annotated[
        str | None,
        Query(description="As of this event time: no later event counts.", examples=["2017-12-01"]),
    ] = None,
    known_at: Annotated[
        int | None,
        Query(ge=0, description="From what lay in the log before this position.", examples=[1000]),
    ] = None,
    written: Annotated[
        Literal["en", "zh"] | None,
        Query(description="Say it in a few sentences too: in English or Chinese."),
    ] = None,
) -> Response:
    """What is known of a user now, or at a point in time: four sections of slots.

    Each sentence of `written` names the slots that it rests on.
    """
    when = None if at is None else moment(at, app.config.timezone)
    if when is None and known_at is None and written is None:
        return json_answer(await lots.portraits(user_id))
    read = partial(app.portrait, user_id, at=when, known_at=known_at, written=written or "")
    return json_answer(await run_in_threadpool(read))


@router.get(
    "/users/{user_id}/portrait/evidence",
    tags=["users"],
    summary="The events behind a slot",
    responses=answers(Evidence),
)
def get_evidence(
    app: Shop,
    user_id: UserId,
    slot: Annotated[str, Query(description='"section.name".', examples=["value.spend"])],
    limit: Annotated[int, Query(ge=1, le=1000, description="How many, at most.")] = 20,
) -> Response:
    """The newest events that a slot of the portrait rests on."""
    return json_answer(Evidence(user_id, slot, app.evidence(user_id, slot, limit=limit)))


@router.get(
    "/users/{user_id}/portrait/explain",
    tags=["users"],
    summary="How a slot is calculated",
    responses=answers(SlotExplained),
)
def get_explained(
    app: Shop,
    user_id: UserId,
    slot: Annotated[str, Query(description='"section.name".', examples=["value.spend"])],
    limit: Annotated[int, Query(ge=1, le=1000, description="How many events, at most.")] = 5,
) -> Response:
    """A slot's formula in plain words, its confidence, its newest events, what would change it."""
    return json_answer(app.explain_slot(user_id, slot, limit=limit))


@router.get(
    "/users/{user_id}/portrait/history",
    tags=["users"],
    summary="How a slot came about",
    responses=answers(SlotHistory),
)
def get_history(
    app: Shop,
    user_id: UserId,
    slot: Annotated[str, Query(description='"section.name".', examples=["value.spend"])],
    limit: Annotated[int, Query(ge=1, le=1000, description="How many changes, at most.")] = 30,
) -> Response:
    """What a slot of the portrait was after each event that changed it, newest first.

    With more changes than `limit`: after each day.
    """
    return json_answer(SlotHistory(user_id, slot, app.portrait_history(user_id, slot, limit=limit)))


@router.get(
    "/users/{user_id}/recommendations",
    tags=["recommendations"],
    summary="The best items for a user",
    responses=answers(Recommendations),
)
async def get_recommendations(
    app: Shop,
    lots: Lots,
    user_id: UserId,
    asked: Listing,
    n: Annotated[int | None, Query(ge=1, le=1000, description="How many items.")] = None,
    explain: Annotated[bool, Query(description="Whether each item comes with reasons.")] = False,
    log: Annotated[
        bool, Query(description="Whether the list is recorded as an impression.")
    ] = True,
) -> Response:
    """Ranked items, each with the parts its score is the sum of.

    Filters and steps after the score are on record. A user without a history gets what is
    popular, and `note` says so; it also says when filters left nothing.
    """
    by, scenario = asked.pop("by"), asked.pop("scenario")
    log = log and app.writable
    wanted = Wanted(user_id, n, explain, log, by, scenario, cast(Asked, asked))
    return json_answer(await lots.lists(wanted))


@router.post(
    "/recommendations",
    tags=["recommendations"],
    summary="The best items for a session without a user",
    openapi_extra=EVENTS_BODY,
    responses=answers(Recommendations),
)
def post_recommendations(
    app: Shop,
    request: Request,
    body: RawBody,
    asked: Listing,
    n: Annotated[int | None, Query(ge=1, le=1000, description="How many items.")] = None,
    explain: Annotated[bool, Query(description="Whether each item comes with reasons.")] = False,
) -> Response:
    """The events are in the body, and nothing is recorded.

    Otherwise as for a user; in reasons, `events` are places in the body, from 1. `refused` names
    the events that the list does not rest on, and why.
    """
    by, scenario = asked.pop("by"), asked.pop("scenario")
    batches, unreadable = parse_events(
        body,
        request.headers.get("content-type", ""),
        where="POST /v1/recommendations",
        now=app.now(),
    )
    return json_answer(
        listing.for_session(
            app,
            batches,
            unreadable,
            scenario=scenario,
            by=by,
            n=n,
            explain=explain,
            asked=cast(Asked, asked),
        )
    )


@router.get(
    "/items/{item_id}/similar",
    tags=["recommendations"],
    summary="Items like an item, or bought together with it",
    responses=answers(SimilarItems),
)
def get_similar(
    app: Shop,
    item_id: ItemId,
    n: Annotated[int, Query(ge=1, le=1000, description="How many items.")] = 10,
    by: Annotated[By, Query(description="Alike, or bought together.")] = "alike",
    filter: Annotated[str, Query(description="A condition that items must meet.")] = "",
) -> Response:
    """Each with its score; of those alike the parts that it is the sum of."""
    return json_answer(app.similar(item_id, n, by=by, filter=filter))


@router.get(
    "/attribution",
    tags=["recommendations"],
    summary="What became of the lists",
    responses=answers(Attribution),
)
def get_attribution(app: Shop) -> Response:
    """The lists that were recorded, by scenario, and the events that carry their ids."""
    return json_answer(app.attribution())


@router.get(
    "/users/{user_id}/why/{item_id}",
    tags=["recommendations"],
    summary="Why an item is in a list, or why not",
    responses=answers(Why),
)
def get_why(
    app: Shop,
    user_id: UserId,
    item_id: ItemId,
    asked: Listing,
) -> Response:
    """Where an item stands for a user, and the events that put it there."""
    return json_answer(app.why(user_id, item_id, **asked))


@router.post(
    "/users/{user_id}/erase",
    tags=["users"],
    summary="Erase a user for good",
    responses=answers(Erased),
)
def erase(app: Shop, user_id: UserId) -> Response:
    """Remove a user from everything that keeps data, and say what was removed where."""
    return json_answer(app.erase(user_id))


# -- learning and health ---------------------------------------------------------------------


@router.get(
    "/topics",
    tags=["operations"],
    summary="The topics last learned",
    responses=answers(TopicsInUse),
)
def get_topics(app: Shop) -> Response:
    """The topics that facets of kind "topics" show, each by its words."""
    return json_answer(TopicsInUse.of(app.topics()))


@router.post(
    "/topics",
    tags=["operations"],
    summary="Learn topics",
    responses=answers(TopicsInUse),
)
def post_topics(
    app: Shop, n: Annotated[int, Query(ge=2, le=200, description="How many topics.")] = 12
) -> Response:
    """Learn topics anew from the keywords of all users, and use them."""
    return json_answer(TopicsInUse.of(app.learn_topics(n)))


@health.get(
    "/live",
    summary="Whether the server answers",
    responses=answers(Live),
)
async def live() -> Response:
    """Needs no key."""
    return json_answer(Live("live", __version__))


@health.get(
    "/ready",
    summary="What the server has",
    responses=answers(Ready),
)
def ready(app: Shop, trainer: InTraining) -> Response:
    """Needs no key."""
    found = app.status()
    return json_answer(
        Ready(
            "ready",
            found["users"],
            found["items"],
            found["position"],
            found["model"],
            trainer.training,
        )
    )


# -- the application -------------------------------------------------------------------------


def api(app: Limner, trainer: Trainer | None = None, jobs: Jobs | None = None) -> FastAPI:
    """The ASGI application over an open app."""
    out = FastAPI(
        title="Limner",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
    )
    out.state.limner = app
    measures = Measures(app)
    out.state.lots = lots_of(app, measures.recorded)
    out.state.streams = stream.Streams(app.following.news)
    out.state.trainer = trainer or Trainer(app)
    out.state.jobs = jobs or app.jobs(out.state.trainer.train, out.state.trainer.update)
    out.include_router(router)
    out.include_router(audiences.router)
    out.include_router(times.router)
    out.include_router(stream.router)
    out.include_router(hooks.router)
    out.include_router(cleaning.router)
    out.include_router(models.router)
    out.include_router(choosing.router)
    out.include_router(onlookers.router)
    out.include_router(health)
    out.add_exception_handler(LimnerError, _on_limner_error)
    out.add_exception_handler(HTTPException, _on_http_error)
    out.add_exception_handler(Full, _on_full)
    out.add_exception_handler(RequestValidationError, _on_invalid)
    out.add_exception_handler(Exception, _on_bug)
    described = document(out)
    out.openapi = lambda: described  # type: ignore[method-assign]
    out.add_middleware(Routed)
    out.add_middleware(Once, limner=app)
    out.add_middleware(Bounds)
    listens = app.config.serve
    known = Known(listens.api_key, app.store.api_keys)
    out.add_middleware(Door, known=known, rate=listens.rate, origins=listens.origins)
    if listens.origins:  # a browser asks what it may before it sends a key, so this comes first
        out.add_middleware(
            CORSMiddleware,
            allow_origins=listens.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=[
                "Authorization",
                "X-API-Key",
                "Content-Type",
                "Idempotency-Key",
                "Last-Event-ID",
            ],
        )
    onlookers.look_on(out, app, measures)
    return out


async def _on_limner_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LimnerError)
    return of_error(error)


async def _on_full(request: Request, error: Exception) -> Response:
    return problem(
        429,
        "Too much waits to be answered",
        "the server has as many requests of this kind waiting as it takes",
        kind="urn:limner:error:busy",
        mend="send it again after the seconds that Retry-After says",
        headers={"Retry-After": "1"},
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return of_status(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    places = [".".join(str(part) for part in each["loc"][1:]) or "body" for each in found]
    return problem(
        422,
        "A parameter or the body is not as it must be",
        "; ".join(f"{place}: {each['msg']}" for place, each in zip(places, found, strict=True)),
        kind="urn:limner:error:invalid",
        mend="see /openapi.json for what is expected",
    )


async def _on_bug(request: Request, error: Exception) -> Response:
    return problem(
        500,
        "An error inside Limner",
        type(error).__name__,
        mend="the server's own output says more",
    )
