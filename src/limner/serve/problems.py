"""Errors as problem documents (RFC 9457), and back again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from limner.errors import (
    InputError,
    LimnerError,
    MissingExtra,
    ModelError,
    NotFound,
    StoreError,
    UsageError,
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

_PREFIX = "urn:limner:error:"


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


def kind_of(cls: type[LimnerError]) -> str:
    """The `type` of an error's problem document.

    >>> kind_of(NotFound)
    'urn:limner:error:not-found'
    """
    return _PREFIX + re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


def to_error(body: Mapping[str, Any]) -> LimnerError:
    """The error that a problem document tells of, for a client.

    >>> to_error({"type": "urn:limner:error:not-found", "detail": "user 'x' is not known"})
    NotFound("user 'x' is not known", '', '')
    """
    kinds = {kind_of(cls): cls for cls in every_error()}
    cls = kinds.get(str(body.get("type")), LimnerError)
    error = cls.__new__(cls)  # MissingExtra has a constructor of its own
    LimnerError.__init__(
        error,
        str(body.get("detail") or body.get("title") or "the server gives no reason"),
        where=str(body.get("where", "")),
        mend=str(body.get("mend", "")),
    )
    return error


def every_error(cls: type[LimnerError] = LimnerError) -> list[type[LimnerError]]:
    """The error tree, from its root."""
    return [cls, *(found for sub in cls.__subclasses__() for found in every_error(sub))]
