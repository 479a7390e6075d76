"""A client of the HTTP API: `Client`, and `AsyncClient` for asyncio.

from limner.client import Client

with Client("http://127.0.0.1:8088") as limner:
    limner.record({"user_id": "u1", "item_id": "tea", "event_type": "purchase", "value": 4.5})
    limner.recommend("u1", n=5).items

`asking` says what each request is, `values` what the answers are, `retrying` when a request is
sent again, `line` holds events that wait, and `client` sends. Needs the extra `client`, and
neither numpy nor Arrow.
"""

from limner.client.client import AsyncClient, Client
from limner.client.retrying import Busy, Retries, Unreachable
from limner.errors import AllRefused

__all__ = ["AllRefused", "AsyncClient", "Busy", "Client", "Retries", "Unreachable"]
