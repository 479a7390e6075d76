"""A line a request, for the server's own output: see `speech` for how it is written.

It names the route's template and never a path, so no user's id is in it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from limner.serve.door import Scope
from limner.serve.seen import Request

_log = logging.getLogger("limner.access")
_log.setLevel(logging.INFO)


@contextmanager
def access_log(request: Request, scope: Scope) -> Iterator[None]:
    """An onlooker that writes each request."""
    try:
        yield
    finally:
        _log.info("", extra={"request": request})
