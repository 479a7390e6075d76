"""What a server writes to its own output: one line a record, and no text of users in it."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any


class _Line(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        """The kind of an error and where it was, but not its text: that may name a user."""
        kind, _, where = ei
        places = "".join(
            f"  {frame.filename}:{frame.lineno} {frame.name}\n"
            for frame in traceback.extract_tb(where)
        )
        return f"{places}{kind.__name__ if kind else 'an error'} (its text is not written down)"


def quietly() -> None:
    """Have warnings and errors of all libraries go to stderr, without the texts of exceptions."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
