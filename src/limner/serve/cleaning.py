"""The endpoints of preprocessing: what was refused, and how it is mended."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Query, Request, Response

from limner.app.preprocessing import CleaningReport
from limner.app.quarantine import Readmitted
from limner.errors import UsageError
from limner.events.raw import Refused
from limner.serve.answers import Dropped, Quarantined
from limner.serve.openapi import EVENTS_BODY, PROBLEMS, answers
from limner.serve.requests import RawBody, Shop, json_answer
from limner.serve.scopes import Scoped
from limner.sources.lint import LintReport
from limner.sources.payloads import parse_events
from limner.sources.validate import validate_batches

router = APIRouter(prefix="/v1", route_class=Scoped, responses=PROBLEMS, tags=["cleaning"])


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Which refused rows, and what to correct in them."""

    ids: list[int] = []
    rule: str | None = None
    import_id: int | None = None
    set: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []


def _choice(body: dict[str, Any]) -> Choice:
    try:
        return msgspec.convert(body, Choice)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"the body is not as it must be: {error}", mend="see /openapi.json for what is expected"
        ) from None


@router.post(
    "/validate",
    summary="Check events without recording them",
    openapi_extra=EVENTS_BODY,
    responses=answers(LintReport),
)
def post_validate(app: Shop, request: Request, body: RawBody) -> Response:
    """Say what the rules would say of the events, and what else looks odd; nothing is recorded.

    Takes what `POST /v1/events` takes. Items and users are looked up in the store.
    """
    now = app.now()
    batches, unreadable = parse_events(
        body,
        request.headers.get("content-type", ""),
        where="POST /v1/validate",
        now=now,
        received=app.received(),
    )
    return json_answer(
        validate_batches(
            batches,
            unreadable,
            where="POST /v1/validate",
            config=app.config.clean,
            now=max(now, time.time_ns() // 1_000),
            items=lambda item: app.state.catalog.ids.code(item) >= 0,
        )
    )


@router.get("/cleaning", summary="What cleaning has done", responses=answers(CleaningReport))
def get_cleaning(app: Shop) -> Response:
    """Each rule with its version, how many rows it has touched, when last, and an example."""
    return json_answer(app.cleaning())


@router.get("/quarantine", summary="The rows that were refused", responses=answers(Quarantined))
def get_quarantine(
    app: Shop,
    limit: Annotated[int, Query(ge=1, le=10_000, description="How many rows, at most.")] = 100,
    import_id: Annotated[int | None, Query(description="Of this import only.")] = None,
    rule: Annotated[str | None, Query(description="Refused by this rule only.")] = None,
) -> Response:
    """Refused rows, the newest first, each with its number, the reason and how to mend it."""
    held = app.quarantine
    rows = held.rows(limit=limit, import_id=import_id, rule=rule)
    return json_answer(Quarantined(held.counts(), rows))


@router.get("/quarantine/{row_id}", summary="One refused row", responses=answers(Refused))
def get_refused(app: Shop, row_id: int) -> Response:
    """Every field of a refused row."""
    return json_answer(app.quarantine.row(row_id))


@router.post("/quarantine/readmit", summary="Readmit refused rows", responses=answers(Readmitted))
def post_readmit(
    app: Shop,
    body: Annotated[
        dict[str, Any],
        Body(
            description="Rows by `ids`, `rule` or `import_id`, with `set` for fields that all "
            "get; or `rows` of their own, each with its `row_id` and what changes.",
            examples=[{"ids": [12, 13], "set": {"event_type": "purchase"}}],
        ),
    ],
) -> Response:
    """Send refused rows through the door again, corrected. What is admitted leaves."""
    chosen = _choice(body)
    return json_answer(
        app.quarantine.readmit(
            chosen.ids,
            rule=chosen.rule,
            import_id=chosen.import_id,
            change=chosen.set,
            corrected=chosen.rows,
        )
    )


@router.post("/quarantine/drop", summary="Give refused rows up", responses=answers(Dropped))
def post_drop(
    app: Shop,
    body: Annotated[
        dict[str, Any],
        Body(description="Rows by `ids`, `rule` or `import_id`.", examples=[{"ids": [12]}]),
    ],
) -> Response:
    """Remove refused rows for good. The same rows, sent again, are not held again."""
    chosen = _choice(body)
    ids, rule, import_id = chosen.ids, chosen.rule, chosen.import_id
    return json_answer(Dropped(app.quarantine.drop(ids, rule=rule, import_id=import_id)))
