"""Errors as problem documents (RFC 9457); `limner.errors.to_error` reads them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from limner.errors import (
    InputError,
    LimnerError,
    MissingExtra,
    ModelError,
    NotFound,
    StoreError,
    UsageError,
    kind_of,
)
from limner.serve.wire import encode

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[LimnerError], int] = {
    NotFound: 404,
    MissingExtra: 501,
    UsageError: 400,
    InputError: 400,
    StoreError: 503,
    ModelError: 500,
    LimnerError: 500,
}
"""HTTP status of an error; that of its nearest base if it has none of its own."""


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    kind: str = "about:blank",
    mend: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A response with a problem document; `mend` says what to do about it."""
    body = {"type": kind, "title": title, "status": status, "detail": detail, "mend": mend, **more}
    given = {name: value for name, value in body.items() if value not in ("", None)}
    return Response(encode(given), status, headers=headers, media_type=MEDIA_TYPE)


def of_error(error: LimnerError, **more: Any) -> Response:
    """The problem document of an error that Limner raised on purpose."""
    base = next(cls for cls in type(error).__mro__ if cls in STATUS)
    title = (type(error).__doc__ or "").partition("\n")[0].rstrip(".")
    return problem(
        STATUS[base],
        title,
        error.what,
        kind=kind_of(type(error)),
        mend=error.mend,
        where=error.where,
        **more,
    )


_SAID = {
    404: ("No such path", "see /openapi.json for what there is"),
    405: ("No such method", "see /openapi.json for what there is"),
    408: ("Too slow", "send it again at once and whole, or in several requests"),
    413: ("Too large", "send it in several requests, or use limner import"),
}


def of_status(error: HTTPException) -> Response:
    """The problem document of an error that is no more than a status."""
    title, mend = _SAID.get(error.status_code, ("The request cannot be answered", ""))
    return problem(error.status_code, title, str(error.detail), mend=mend, headers=error.headers)
