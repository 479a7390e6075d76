"""What a server writes to its own output: one line a record, and no text of users in it."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any, Literal

import msgspec

from limner.serve.seen import Request


class _Line(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        """The kind of an error and where it was, but not its text: that may name a user."""
        kind, _, where = ei
        places = "".join(
            f"  {frame.filename}:{frame.lineno} {frame.name}\n"
            for frame in traceback.extract_tb(where)
        )
        return f"{places}{kind.__name__ if kind else 'an error'} (its text is not written down)"


class _Text(_Line):
    def format(self, record: logging.LogRecord) -> str:
        request: Request | None = getattr(record, "request", None)
        if request is None:
            return super().format(record)
        return (
            f"{_when(record)} {request.method} {request.route} {request.status} "
            f"{request.seconds * 1_000:.1f} ms {request.request_id}"
        )


class _Json(_Line):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {"time": _when(record), "level": record.levelname.lower()}
        request: Request | None = getattr(record, "request", None)
        if request is None:
            line |= {"logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                line["trace"] = self.formatException(record.exc_info)
        else:
            line |= {
                "method": request.method,
                "route": request.route,
                "status": request.status,
                "ms": round(request.seconds * 1_000, 3),
                "request_id": request.request_id,
            }
        return msgspec.json.encode(line).decode()


def _when(record: logging.LogRecord) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{moment}.{int(record.msecs):03d}Z"


def quietly(form: Literal["off", "text", "json"] = "off") -> None:
    """Have warnings and errors of all libraries go to stderr, without the texts of exceptions.

    In "json" each line is a JSON object.
    """
    handler = logging.StreamHandler(sys.stderr)
    line = _Json() if form == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(line)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
