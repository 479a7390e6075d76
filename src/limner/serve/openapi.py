"""How the API describes itself: the schemas of its answers, from their classes, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from limner import __version__
from limner.app import Erased, Models, Run, Standing
from limner.app.operating import Status
from limner.app.preprocessing import CleaningReport
from limner.app.quarantine import Readmitted
from limner.events.raw import Refused
from limner.explain.parameters import Parameter, Parameters
from limner.explain.reasons import Reason
from limner.explain.slots import SlotExplained
from limner.explain.why import Why
from limner.model.registry import Act, Difference
from limner.profile.changes import Change, Changes
from limner.profile.choices import Choices
from limner.profile.interaction import Interaction, Together
from limner.profile.portrait import Portrait, SlotThen
from limner.recommend.attribution import Attribution, Outcome
from limner.recommend.rank import Recommendations
from limner.recommend.similar import SimilarItem, SimilarItems
from limner.serve.answers import (
    Accepted,
    DeadOnes,
    Dropped,
    Evidence,
    Group,
    LearnedTopics,
    Live,
    ProblemDocument,
    Quarantined,
    Ready,
    Redelivered,
    Scheduled,
    SlotHistory,
    TopicsInUse,
    Webhooks,
)
from limner.serve.background import Training
from limner.serve.problems import MEDIA_TYPE
from limner.serve.scopes import needed
from limner.sources.lint import LintReport

DESCRIPTION = """Events in; portraits, recommendations and reasons out.

An id in a path is percent-encoded, so it may hold any character, a slash (`%2F`) too. Times are
integers of microseconds since 1970-01-01 UTC; a time that is asked for may also be ISO 8601.
Errors are problem documents (RFC 9457), and `mend` says what to do."""

_NOON = 1_512_129_600_000_000
_VERDICT = {
    "promoted": True,
    "outcome": "win",
    "reason": "it is better beyond chance: NDCG@10 0.2010 → 0.2190, +0.0180 [+0.0041, +0.0322] "
    "over 812 users",
    "questions": 1_240,
    "users": 812,
    "incumbent": 0.201,
    "candidate": 0.219,
    "difference": {"mean": 0.018, "low": 0.0041, "high": 0.0322},
}
_ACT = {
    "at": _NOON,
    "what": "published",
    "version": "000002",
    "before": "000001",
    "reason": _VERDICT["reason"],
    "verdict": _VERDICT,
}
_SLOT = {
    "name": "spend",
    "section": "value",
    "label": "spend",
    "value": 214.5,
    "text": "214 in all",
    "confidence": 0.83,
    "events": 42,
    "changed_at": _NOON,
    "unit": "money",
    "facet": "spend",
}
_EVENT = {
    "user_id": "u1",
    "item_id": "tea",
    "event_type": "purchase",
    "timestamp": _NOON,
    "value": 4.5,
    "quantity": 1.0,
    "properties": {"shop": "north"},
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
_SIMILAR = {
    "item_id": "honey",
    "title": "Honey",
    "score": 0.91,
    "parts": {"chosen by the same": 0.31, "content": 0.6},
}
_OUTCOME = {
    "scenario": "home",
    "lists": 200,
    "shown": 2_000,
    "events": {"click": 31, "purchase": 12},
    "rates": {"click": 0.14, "purchase": 0.055},
}
_RUN = {
    "name": "population",
    "refresh": "every 1m",
    "next_run": _NOON + 60_000_000,
    "outcome": "done",
    "started": _NOON,
    "seconds": 0.8,
    "said": "2,469 users",
    "error": "",
}
_CHANGE = {
    "id": 17,
    "kind": "interest_shift",
    "user": "9f2c41d6a0b35e7788c1d2e3f4a5b6c7",
    "slot": "interests.category",
    "before": {"value": {"tea": 0.8, "soap": 0.2}, "text": "tea (80 %), soap (20 %)"},
    "after": {"value": {"soap": 0.6, "tea": 0.4}, "text": "soap (60 %), tea (40 %)"},
    "position": 4711,
    "time": _NOON,
    "drift": 0.4,
    "user_id": "u1",
}
_REASON = {
    "text": _ITEM["reason"],
    "part": "frequency",
    "effect": 1.1,
    "events": [17, 203, 391, 822],
    "items": ["tea"],
}

_SLOT_THEN = {
    "at": _NOON,
    "value": 214.5,
    "text": "214 in all",
    "confidence": 0.83,
    "events": 42,
}
_TOPICS = {
    "facet": "topics",
    "version": "5f0c9a3e71d2",
    "at": _NOON,
    "words": 1_208,
    "topics": ["tea, kettle, leaf, infusion", "guitar, string, chord"],
}
_TIES = {
    "item_id": "tea",
    "events": 4,
    "sessions": 4,
    "strength": 2.9,
    "first": _NOON - 3_000_000_000_000,
    "last": _NOON - 700_000_000_000,
    "interval": 777_600_000_000.0,
    "together": [{"item_id": "honey", "times": 3, "lift": 2.4}],
    "text": "4 events, about every 9 days, often together with honey",
}

_REFUSED = {
    "where": "events.csv",
    "line": 17,
    "rule": "bad_time",
    "reason": "the time 'yesterday' cannot be read; to mend it: say how it is written: "
    "--time-format '%d/%m/%Y %H:%M'",
    "row": {"user_id": "u1", "item_id": "tea", "event_type": "view", "timestamp": "yesterday"},
    "row_id": 12,
    "import_id": 3,
}

_PARAMETER = {
    "name": "frequency",
    "means": "what you buy again and again, and when it is due",
    "weights": {"next": 1.2, "new": 0.0},
}

EXAMPLES: Mapping[type[Any], Any] = {
    Accepted: {"added": 1, "repeated": 0, "refused": [], "as_of": 1_469_308},
    CleaningReport: {
        "rules": [
            {
                "rule": "bad_time",
                "version": 1,
                "effect": "refuses",
                "on": True,
                "says": "the time cannot be read",
                "touched": 3,
                "held": 1,
                "last": _NOON,
                "example": _REFUSED["row"],
            }
        ],
        "usual": [
            {"event_type": "purchase", "measure": "value", "n": 812, "mean": 3.1, "deviation": 2.2}
        ],
        "day_bound": 500.0,
    },
    Refused: _REFUSED,
    LintReport: {
        "where": "POST /v1/validate",
        "kind": "events",
        "rows": 2,
        "good": 1,
        "users": 1,
        "items": 1,
        "first": _NOON,
        "last": _NOON,
        "columns": [{"name": "user_id", "meaning": "user_id", "filled": 1.0, "constant": None}],
        "types": {"purchase": 1},
        "days": {"2017-12-01": 1},
        "problems": [
            {
                "name": "bad_time",
                "level": "error",
                "rows": 1,
                "text": "the time 'yesterday' cannot be read",
                "mend": "say how it is written: --time-format '%d/%m/%Y %H:%M'",
                "lines": [2],
                "example": "",
            }
        ],
    },
    Quarantined: {"counts": {"bad_time": 1}, "rows": [_REFUSED]},
    Readmitted: {"added": 1, "repeated": 0, "refused": []},
    Dropped: {"dropped": 1},
    Portrait: {
        "user_id": "u1",
        "at": _NOON,
        "as_of": 1_469_308,
        "basic": {},
        "behaviour": {},
        "interests": {},
        "value": {"spend": _SLOT},
        "vector": [],
        "model": None,
        "written": {
            "language": "en",
            "sentences": [{"text": "The spend is 214 in all.", "slots": ["value.spend"]}],
            "by": "template",
            "model": None,
            "dropped": [],
            "note": "",
        },
        "vector_at": None,
    },
    Evidence: {"user_id": "u1", "slot": "value.spend", "events": [_EVENT]},
    SlotExplained: {
        "user_id": "u1",
        "path": "value.spend",
        "slot": _SLOT,
        "kind": "sum",
        "formula": "The sum of value over events of type purchase.",
        "confidence": "n ÷ (n + 5) with n = 42 events × 2^(−286.00 days ÷ 365 days) = 24.4: 0.830",
        "changes": [
            "another event of type purchase adds its value",
            "time alone does not change it",
        ],
        "error": "",
        "settings": {"where": {"event_type": "purchase"}, "of": ["value"]},
        "evidence": [_EVENT],
    },
    Group: {
        "count": 412,
        "of": 2_469,
        "at": _NOON,
        "as_of": 1_469_308,
        "users": ["1643", "208"],
        "cursor": "00a3f1c2b4d5e6f708192a3b4c5d6e7f",
        "notes": [],
        "index": [{"key": "COFFEE", "share": 0.06, "overall": 0.02, "index": 300.0}],
    },
    Standing: {
        "users": 2_469,
        "at": _NOON,
        "as_of": 1_469_308,
        "measures": {"recency": "behaviour.days_since_last_purchase", "monetary": "value.spend"},
        "segments": {"champions": 402, "hibernating": 377},
        "tiers": {"low": 740, "middle": 988, "high": 494, "top": 247},
        "clusters": [
            {
                "name": "coffee and bread, often",
                "users": 311,
                "share": 0.126,
                "marks": [{"key": "COFFEE", "share": 0.06, "overall": 0.02, "index": 300.0}],
            }
        ],
        "silhouette": 0.31,
    },
    SlotThen: _SLOT_THEN,
    SlotHistory: {"user_id": "u1", "slot": "value.spend", "changes": [_SLOT_THEN]},
    LearnedTopics: _TOPICS,
    TopicsInUse: {"facets": [_TOPICS]},
    Together: {"item_id": "honey", "times": 3, "lift": 2.4},
    Interaction: _TIES,
    Recommendations: {
        "user_id": "u1",
        "recommendation_id": "7f3a5c0e8d1b4a6f9c2e7d5b3a1f0e8d",
        "at": _NOON,
        "as_of": 1_469_308,
        "items": [_ITEM],
        "removed": {"unavailable": 2},
        "model": "000001",
        "note": "",
    },
    Choices: {"personalised": True, "off": ["value.spend"], "wrong": {"basic.age": _NOON}},
    Parameter: _PARAMETER,
    Parameters: {
        "parameters": [_PARAMETER],
        "change": ["ask for lists that are not personalised"],
    },
    SimilarItem: _SIMILAR,
    SimilarItems: {
        "item_id": "tea",
        "title": "Green tea",
        "by": "alike",
        "items": [_SIMILAR],
    },
    Outcome: _OUTCOME,
    Attribution: {"outcomes": [_OUTCOME], "unknown": 2},
    Reason: _REASON,
    Why: {
        **{name: _ITEM[name] for name in ("item_id", "title", "score", "parts", "rank", "steps")},
        "user_id": "u1",
        "family_ranks": {"frequency": 1, "item_to_item": 12},
        "rank_by_score": 1,
        "removed_by": [],
        "reasons": [_REASON],
        "without": 31,
        "counterfactual": "without the 4 purchases of Green tea (last 8 days ago) it would rank 31 "
        "by score instead of 1",
        "missing": None,
        "would": [],
        "interaction": _TIES,
        "text": "number 1 in the list: bought 4 times, about every 9 days, last 8 days ago; "
        "without the 4 purchases of Green tea (last 8 days ago) it would rank 31 by score instead "
        "of 1",
    },
    Erased: {
        "removed": {"event log": 42, "identity table": 1, "portraits": 1},
        "clean": {"event log": True, "identity table": True, "portraits": True},
        "retrain": True,
        "model": {
            "version": "000003",
            "forgot": ["ease", "transitions"],
            "due": ["popularity", "sequence"],
            "older": ["000001"],
        },
    },
    Training: {"state": "running", "stage": "relating items", "done": 3, "total": 8},
    Models: {
        "current": "000002",
        "versions": [
            {
                "version": "000002",
                "in_use": True,
                "made": "updated",
                "at": _NOON,
                "parents": ["000001"],
                "cutoff": _NOON - 1_000_000,
                "position": 1_469_308,
                "users": 2_469,
                "items": 68_509,
                "events": 1_469_308,
                "ndcg": {},
                "verdict": _VERDICT,
                "weights": {"next": {"frequency": 1.9}, "new": {"taste": 2.1}},
            }
        ],
        "journal": [_ACT],
    },
    Act: _ACT,
    Difference: {
        "a": "000001",
        "b": "000002",
        "changed": {"made": ["trained", "updated"], "events": [1_400_000, 1_469_308]},
        "only_a": [],
        "only_b": ["green-tea-7"],
        "items_only_a": 0,
        "items_only_b": 1,
    },
    Ready: {
        "status": "ready",
        "users": 2_469,
        "items": 92_331,
        "position": 1_469_308,
        "model": "000001",
        "training": {"state": "never"},
    },
    Status: {
        "at": _NOON,
        "store": "sqlite:////srv/shop.db",
        "users": 2_469,
        "items": 92_331,
        "position": 1_469_308,
        "newest_event": _NOON,
        "refused": {"bad_time": 3},
        "flagged": {"outlier_value": 12},
        "model": "000002",
        "erased_since_training": 0,
        "backfill": None,
        "schedule": [_RUN],
        "imports": [],
        "operations": {
            "users": 2_469,
            "items": 92_331,
            "position": 1_469_308,
            "quarantined": 3,
            "erased_since_training": 0,
            "snapshot_at": _NOON,
            "snapshot_behind": 1_208,
            "model": "000002",
            "model_behind": 20_480,
            "ndcg": {"next": 0.201},
            "gate": _VERDICT,
            "disk": {"log": 61_865_984, "state": 18_340_112},
        },
        "waiting": {"events": 0, "portraits": 0, "lists": 0},
    },
    Live: {"status": "live", "version": __version__},
    Run: _RUN,
    Scheduled: {"jobs": [_RUN]},
    Change: _CHANGE,
    Webhooks: {
        "webhooks": [
            {
                "name": "shop",
                "url": "https://shop.example/hooks",
                "kinds": ["interest_shift"],
                "last": 16,
                "tries": 1,
                "due": _NOON,
                "error": "status 503",
                "dead": 1,
                "behind": 1,
            }
        ]
    },
    DeadOnes: {
        "letters": [
            {
                "webhook": "shop",
                "change": _CHANGE,
                "error": "ReadTimeout",
                "tries": 10,
                "at": _NOON,
                "again": False,
            }
        ]
    },
    Redelivered: {"redelivered": 1},
    Changes: {"changes": [_CHANGE], "last": 17, "newest": 17, "missed": False},
    ProblemDocument: {
        "type": "urn:limner:error:not-found",
        "title": "An id that Limner does not know",
        "status": 404,
        "detail": "user 'u9' is not known",
        "mend": "check the id; a user is known from the first event or attribute on",
    },
}
"""An example of each answer; a test reads each as its class."""


def answers(
    cls: type[Any],
    status: int = 200,
    description: str = "",
    *,
    media_type: str = "application/json",
) -> dict[int | str, Any]:
    """The `responses` of an endpoint that answers with `cls`."""
    return {status: _described(cls, media_type, description)}


def _described(cls: type[Any], media_type: str, description: str) -> dict[str, Any]:
    return {
        "description": description or (cls.__doc__ or "").partition("\n")[0],
        "content": {
            media_type: {
                "schema": {"$ref": f"#/components/schemas/{cls.__name__}"},
                "example": EXAMPLES[cls],
            }
        },
    }


PROBLEMS: dict[int | str, Any] = {
    "4XX": _described(ProblemDocument, MEDIA_TYPE, "The request is wrong; `mend` says what to do.")
}
"""The `responses` that all endpoints have."""

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
EVENTS_BODY = {
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
"""The body of `POST /v1/events`, which is read by `sources.payloads` and not by FastAPI."""


def document(api: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `api`."""
    out = get_openapi(
        title=api.title, version=api.version, description=api.description, routes=api.routes
    )
    _, schemas = msgspec.json.schema_components(
        tuple(EXAMPLES), ref_template="#/components/schemas/{name}"
    )
    parts = out.setdefault("components", {})
    parts["schemas"] = {**parts.get("schemas", {}), **schemas}
    parts["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in out["paths"].items():
        if path.startswith("/v1/"):
            for method, operation in operations.items():
                scope = needed(f"{method.upper()} {path}")
                operation["security"] = [{"bearer": [scope]}, {"key": [scope]}]
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(out))
    return plain
