"""The HTTP API: FastAPI, thin over `app`.

Whatever touches the app is a plain function, so it runs in the thread pool and requests that
arrive together are committed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import AfterValidator
from starlette.exceptions import HTTPException

from limner import __version__
from limner.app import Erased, Limner
from limner.errors import LimnerError, NotFound
from limner.events.raw import Refused
from limner.explain.reasons import Reason, Why
from limner.privacy.admit import Occurrences
from limner.profile.portrait import Portrait
from limner.profile.writer import Recorded
from limner.recommend.rank import Recommendations
from limner.serve.answers import (
    Accepted,
    Evidence,
    Live,
    ProblemDocument,
    Ready,
    RefusedEvent,
)
from limner.serve.background import Trainer, Training
from limner.serve.door import Door
from limner.serve.problems import MEDIA_TYPE, of_error, problem
from limner.serve.wire import encode, moment
from limner.sources.payloads import MAX_BYTES, parse_events

DESCRIPTION = """Events in; portraits, recommendations and reasons out.

An id in a path is percent-encoded, so it may hold any character, a slash (`%2F`) too. Times are
integers of microseconds since 1970-01-01 UTC; a time that is asked for may also be ISO 8601.
Errors are problem documents (RFC 9457), and `mend` says what to do."""


# -- answers ---------------------------------------------------------------------------------


ANSWERS = (
    Accepted, Portrait, Evidence, Recommendations, Reason, Why, Erased, Training, Ready, Live,
    ProblemDocument,
)  # fmt: skip


def _answer(cls: type[Any], example: Any, description: str = "") -> dict[str, Any]:
    return {
        "description": description or (cls.__doc__ or "").partition("\n")[0],
        "content": {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{cls.__name__}"},
                "example": example,
            }
        },
    }


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(encode(value), status, headers=headers, media_type="application/json")


_PROBLEM = {
    "4XX": {
        "description": "The request is wrong; `mend` says what to do.",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/ProblemDocument"},
                "example": {
                    "type": "urn:limner:error:not-found",
                    "title": "An id that Limner does not know",
                    "status": 404,
                    "detail": "user 'u9' is not known",
                    "mend": "check the id; a user is known from the first event or attribute on",
                },
            }
        },
    }
}

# -- what requests carry ---------------------------------------------------------------------


async def _limner(request: Request) -> Limner:
    app: Limner = request.app.state.limner
    return app


async def _trainer(request: Request) -> Trainer:
    trainer: Trainer = request.app.state.trainer
    return trainer


async def _body(request: Request) -> bytes:
    """The body, given up at the first byte too many."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BYTES:
            raise HTTPException(
                413, f"the body has more than {MAX_BYTES:,} bytes; send it in several requests"
            )
        parts.append(part)
    return b"".join(parts)


Shop = Annotated[Limner, Depends(_limner)]
Training_ = Annotated[Trainer, Depends(_trainer)]
RawBody = Annotated[bytes, Depends(_body)]
UserId = Annotated[
    str, Path(description="The product's own user id.", examples=["u1"]), AfterValidator(unquote)
]
ItemId = Annotated[
    str, Path(description="The item's id.", examples=["tea"]), AfterValidator(unquote)
]
Attributes = Annotated[
    dict[str, Any],
    Body(
        description="Attributes by name: texts, numbers, truths or lists of these.",
        examples=[{"title": "Green tea", "category": "tea", "brand": "Oma", "price": 4.5}],
    ),
]

router = APIRouter(prefix="/v1", responses=_PROBLEM)  # type: ignore[arg-type]
health = APIRouter(prefix="/health", tags=["operations"])

_EVENT_SCHEMA = {
    "type": "object",
    "description": "An event. Other names that are usual (userId, event, ts, …) are understood; "
    "keys that are no field are kept as properties.",
    "properties": {
        "user_id": {"type": "string"},
        "item_id": {"type": "string"},
        "event_type": {"type": "string", "description": "view, add_to_cart, purchase, rating, …"},
        "timestamp": {
            "description": "Event time: ISO 8601, or a number of s, ms or µs; now if left out.",
            "anyOf": [{"type": "string"}, {"type": "number"}],
        },
        "event_id": {
            "type": "string",
            "description": "With `source` it makes the event unique: sent twice, counted once.",
        },
        "source": {"type": "string"},
        "value": {"type": "number"},
        "unit": {"type": "string"},
        "quantity": {"type": "number"},
        "group_id": {"type": "string", "description": "The session or basket."},
        "recommendation_id": {"type": "string"},
        "target_user_id": {"type": "string"},
        "tz": {"type": "string"},
        "properties": {"type": "object"},
    },
    "required": ["user_id", "event_type"],
}
_EVENT = {
    "user_id": "u1",
    "item_id": "tea",
    "event_type": "purchase",
    "timestamp": "2017-12-01T08:30:00Z",
    "value": 4.5,
    "quantity": 1,
}
_EVENTS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _EVENT_SCHEMA,
                        {"type": "array", "items": _EVENT_SCHEMA},
                        {
                            "type": "object",
                            "properties": {"events": {"type": "array", "items": _EVENT_SCHEMA}},
                        },
                    ]
                },
                "example": [_EVENT],
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}
_ACCEPTED = {"added": 1, "repeated": 0, "refused": [], "as_of": 1469308}

# -- taking in -------------------------------------------------------------------------------


@router.post(
    "/events",
    tags=["events"],
    summary="Record events",
    openapi_extra=_EVENTS_BODY,
    responses={200: _answer(Accepted, _ACCEPTED)},
)
def post_events(app: Shop, request: Request, body: RawBody) -> Response:
    """Record one event, a list, or one a line, and fold them into the portraits.

    Answers when they are on disk. An event seen before changes nothing. Refused events do not
    stop the others; if all are refused the answer is a problem with status 422.
    """
    batches, unreadable = parse_events(
        body, request.headers.get("content-type", ""), where="POST /v1/events", now=app.now()
    )
    occurrences = Occurrences()
    parts = [app.writer.record(raw, occurrences=occurrences) for raw in batches]
    if unreadable:
        with app.writer.commit_lock, app.store.transaction():
            app.store.quarantine.add(unreadable)
    return _accepted(parts, unreadable)


@router.put(
    "/items/{item_id}",
    tags=["catalog"],
    summary="Say what an item is",
    responses={200: _answer(Accepted, _ACCEPTED)},
)
def put_item(app: Shop, item_id: ItemId, attributes: Attributes) -> Response:
    """A new version of an item, valid from now on; the first one is valid from ever."""
    return _accepted([app.put_item(item_id, attributes)])


@router.delete(
    "/items/{item_id}",
    tags=["catalog"],
    summary="Take an item out of all lists",
    responses={200: _answer(Accepted, _ACCEPTED)},
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
    responses={200: _answer(Accepted, _ACCEPTED)},
)
def put_user(app: Shop, user_id: UserId, attributes: Attributes) -> Response:
    """Attributes that are not named keep what was said before; the last word counts."""
    return _accepted([app.put_user(user_id, attributes)])


def _accepted(parts: Sequence[Recorded], unreadable: Sequence[Refused] = ()) -> Response:
    added, repeated = sum(part.added for part in parts), sum(part.repeated for part in parts)
    rows = [*unreadable, *(row for part in parts for row in part.refused)]
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
    return _json(Accepted(added, repeated, refused, as_of))


# -- answering -------------------------------------------------------------------------------

_SLOT = {
    "name": "spend",
    "section": "value",
    "label": "spend",
    "value": 214.5,
    "text": "214 in the last 90 days",
    "confidence": 0.83,
    "events": 42,
    "changed_at": 1512117000000000,
    "unit": "money",
}
_ITEM = {
    "item_id": "tea",
    "title": "Green tea",
    "rank": 1,
    "score": 1.42,
    "parts": {"frequency": 1.1, "item_to_item": 0.32},
    "steps": [],
    "reason": "bought 4 times, about every 9 days, last 8 days ago",
}


@router.get(
    "/users/{user_id}/portrait",
    tags=["users"],
    summary="The portrait of a user",
    responses={
        200: _answer(
            Portrait,
            {
                "user_id": "u1",
                "at": 1512117000000000,
                "as_of": 1469308,
                "basic": {},
                "behaviour": {},
                "interests": {},
                "value": {"spend": _SLOT},
                "vector": [],
                "model": None,
            },
        )
    },
)
def get_portrait(
    app: Shop,
    user_id: UserId,
    at: Annotated[
        str | None,
        Query(description="As of this event time: no later event counts.", examples=["2017-12-01"]),
    ] = None,
) -> Response:
    """What is known of a user now, or at a point in time: four sections of slots."""
    when = None if at is None else moment(at, app.config.timezone)
    return _json(app.portrait(user_id, at=when))


@router.get(
    "/users/{user_id}/portrait/evidence",
    tags=["users"],
    summary="The events behind a slot",
    responses={
        200: _answer(Evidence, {"user_id": "u1", "slot": "value.spend", "events": [_EVENT]})
    },
)
def get_evidence(
    app: Shop,
    user_id: UserId,
    slot: Annotated[str, Query(description='"section.name".', examples=["value.spend"])],
    limit: Annotated[int, Query(ge=1, le=1000, description="How many, at most.")] = 20,
) -> Response:
    """The newest events that a slot of the portrait rests on."""
    return _json(Evidence(user_id, slot, app.evidence(user_id, slot, limit=limit)))


@router.get(
    "/users/{user_id}/recommendations",
    tags=["recommendations"],
    summary="The best items for a user",
    responses={
        200: _answer(
            Recommendations,
            {
                "user_id": "u1",
                "recommendation_id": "7f3a",
                "at": 1512117000000000,
                "as_of": 1469308,
                "items": [_ITEM],
                "removed": {"unavailable": 2},
                "model": "20171201-0001",
                "note": "",
            },
        )
    },
)
def get_recommendations(
    app: Shop,
    user_id: UserId,
    n: Annotated[int | None, Query(ge=1, le=1000, description="How many items.")] = None,
    explain: Annotated[bool, Query(description="Whether each item comes with reasons.")] = False,
    repeats: Annotated[
        bool | None, Query(description="Whether items the user already had may come again.")
    ] = None,
) -> Response:
    """Ranked items, each with the parts its score is the sum of.

    A user without a history gets what is popular, and `note` says so.
    """
    return _json(app.recommend(user_id, n, explain=explain, repeats=repeats))


@router.get(
    "/users/{user_id}/why/{item_id}",
    tags=["recommendations"],
    summary="Why an item is in a list, or why not",
    responses={
        200: _answer(
            Why,
            {
                **{key: _ITEM[key] for key in ("item_id", "title", "score", "parts", "rank")},
                "user_id": "u1",
                "rank_by_score": 1,
                "without": 31,
                "text": "number 1 in the list: bought 4 times, about every 9 days",
            },
        )
    },
)
def get_why(
    app: Shop,
    user_id: UserId,
    item_id: ItemId,
    repeats: Annotated[
        bool | None, Query(description="Whether items the user already had may come again.")
    ] = None,
) -> Response:
    """Where an item stands for a user, and the events that put it there."""
    return _json(app.why(user_id, item_id, repeats=repeats))


@router.post(
    "/users/{user_id}/erase",
    tags=["users"],
    summary="Erase a user for good",
    responses={
        200: _answer(
            Erased,
            {
                "removed": {"log": 42, "identities": 1, "portraits": 1},
                "clean": {"log": True, "identities": True, "portraits": True},
                "retrain": True,
            },
        )
    },
)
def erase(app: Shop, user_id: UserId) -> Response:
    """Remove a user from everything that keeps data, and say what was removed where."""
    return _json(app.erase(user_id))


# -- training and health ---------------------------------------------------------------------

_TRAINING = {"state": "running", "stage": "item_to_item", "done": 3, "total": 8}


@router.post(
    "/train",
    tags=["operations"],
    status_code=202,
    summary="Train the models",
    responses={
        202: _answer(Training, _TRAINING, "The training has begun; ask GET /v1/train how it goes."),
    },
)
def post_train(trainer: Training_) -> Response:
    """Train on all events so far, beside answering; the new model is used as soon as it is done."""
    if not trainer.start():
        return problem(
            409,
            "A training is under way",
            "one model is trained at a time",
            kind="urn:limner:error:training",
            mend="wait until GET /v1/train says it is done",
        )
    return _json(trainer.training, 202, {"Location": "/v1/train"})


@router.get(
    "/train",
    tags=["operations"],
    summary="How the training goes",
    responses={200: _answer(Training, _TRAINING)},
)
def get_train(trainer: Training_) -> Response:
    """The training that is under way, or the last one since the server started."""
    return _json(trainer.training)


@health.get(
    "/live",
    summary="Whether the server answers",
    responses={200: _answer(Live, {"status": "live", "version": __version__})},
)
async def live() -> Response:
    """Needs no key."""
    return _json(Live("live", __version__))


@health.get(
    "/ready",
    summary="What the server has",
    responses={
        200: _answer(
            Ready,
            {
                "status": "ready",
                "users": 2469,
                "items": 92331,
                "position": 1469308,
                "model": "20171201-0001",
                "training": {"state": "never"},
            },
        )
    },
)
def ready(app: Shop, trainer: Training_) -> Response:
    """Needs no key."""
    found = app.status()
    return _json(
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


def api(app: Limner, trainer: Trainer | None = None) -> FastAPI:
    """The ASGI application over an open app."""
    out = FastAPI(
        title="Limner",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages would load their scripts from elsewhere
        redoc_url=None,
    )
    out.state.limner = app
    out.state.trainer = trainer or Trainer(app)
    out.include_router(router)
    out.include_router(health)
    out.add_exception_handler(LimnerError, _on_limner_error)
    out.add_exception_handler(HTTPException, _on_http_error)
    out.add_exception_handler(RequestValidationError, _on_invalid)
    out.add_exception_handler(Exception, _on_bug)
    document = _openapi(out)
    out.openapi = lambda: document  # type: ignore[method-assign]
    out.add_middleware(Door, key=app.config.serve.api_key)
    return out


def _openapi(out: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=out.title, version=out.version, description=out.description, routes=out.routes
    )
    _, schemas = msgspec.json.schema_components(ANSWERS, ref_template="#/components/schemas/{name}")
    parts = document.setdefault("components", {})
    parts["schemas"] = {**parts.get("schemas", {}), **schemas}
    parts["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"bearer": []}, {"key": []}]
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


async def _on_limner_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LimnerError)
    return of_error(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(
        error.status_code,
        {404: "No such path", 405: "No such method", 413: "Too large"}.get(
            error.status_code, "The request cannot be answered"
        ),
        str(error.detail),
        mend="see /openapi.json for what there is" if error.status_code in (404, 405) else "",
        headers=error.headers,
    )


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
