"""Every error Limner raises on purpose, and what each one means.

LimnerError                 what is wrong, where, and how to mend it
├── UsageError              the caller asked for something that cannot be (exit code 2)
│   ├── ConfigError         limner.toml or LIMNER_* holds an unknown key or a bad value
│   ├── ExpressionError     a condition cannot be read, or names what is not there
│   ├── MissingExtra        an optional ability is not installed; names the install command
│   └── NotFound            an unknown user, item, import, slot or model
├── InputError              a file or payload cannot be read at all (single rows go to quarantine)
├── StoreError              the store cannot do what was asked
│   ├── StoreBusy           another process writes to this store
│   │   └── WipeDue         it is done, but a reader keeps old bytes of what was removed
│   ├── StoreCorrupt        stored bytes do not match their hash or format
│   ├── KeyMissing          the store's keys are not where they should be
│   └── OutOfOrder          a batch does not start at the state's next position
└── ModelError              a model cannot be fitted, loaded or used
    └── EndpointDown         the endpoint of a model is down, too slow, or takes no more for now
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class LimnerError(Exception):
    """An error with three parts: `what` is wrong, `where`, and how to `mend` it.

    >>> print(LimnerError("no user column", where="shop.csv", mend="add --map user_id=buyer"))
    shop.csv: no user column
      to mend it: add --map user_id=buyer
    """

    exit_code = 1
    problem: Mapping[str, Any] | None = None
    """The problem document (RFC 9457) that a server told it in."""

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what, where, mend)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  to mend it: {self.mend}" if self.mend else head


class UsageError(LimnerError):
    """The request itself is wrong; nothing was changed."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key is unknown or its value is not allowed."""


class ExpressionError(UsageError):
    """A condition that cannot be read, or names what is not there; `where` is its column."""


class MissingExtra(UsageError):
    """An ability lives in an extra that is not installed."""

    def __init__(self, ability: str, extra: str) -> None:
        super().__init__(
            f"{ability} needs an extra that is not installed",
            mend=f"pip install 'limner[{extra}]'",
        )


class NotFound(UsageError):
    """An id that Limner does not know."""


class InputError(LimnerError):
    """A file or payload that cannot be read at all."""


class StoreError(LimnerError):
    """The store cannot do what was asked."""


class StoreBusy(StoreError):
    """Another process holds the store's write lock."""


class WipeDue(StoreBusy):
    """What was asked is done and committed; old bytes wait for a reader in another process."""


class StoreCorrupt(StoreError):
    """Stored bytes do not match their hash or format."""


class KeyMissing(StoreError):
    """The keys of a store are not where they should be."""


class OutOfOrder(StoreError):
    """A batch's first position is not the state's next one."""


class ModelError(LimnerError):
    """A model cannot be fitted, loaded or used."""


class AllRefused(InputError):
    """No event of a request could be used; `refused` says why of each."""

    refused: list[Any]


class EndpointDown(ModelError):
    """The endpoint of a model is down, too slow, closed to us, or takes no more for now."""


_PREFIX = "urn:limner:error:"


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
    error.problem = body
    return error


def every_error(cls: type[LimnerError] = LimnerError) -> list[type[LimnerError]]:
    """The error tree, from its root."""
    return [cls, *(found for sub in cls.__subclasses__() for found in every_error(sub))]
