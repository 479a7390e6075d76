"""The limner.toml that `limner init` writes: every setting, with its default and meaning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from limner.config import Config
from limner.profile.facet import FacetConfig
from limner.profile.webhooks import WebhookConfig

MEANINGS: Mapping[str, str] = {
    "domain": "The field that default facets and weights come from.",
    "store": "Where everything is kept; a relative path begins at this file.",
    "key_file": "The key file. Empty: beside the store, under its name with .key.",
    "timezone": "The zone of users whose events name none, for hours and weekdays.",
    "clock": 'What is now: "wall" for the wall clock, or for data of the past "events" for the '
    "newest event's time.",
    "lateness": "How late an event may be and still be merged; later ones rebuild their user.",
    "states_mb": "Memory for what the sequence model keeps of users between answers, in MB.",
    "weights": "Worth of an event type as a sign of interest, over the domain's.",
    "retention": "How long events are kept, by event type; all: those that are not named.",
    "audiences": "Conditions by a name: who comes to meet one, or meets it no more, is told.",
    "scenario": "Lists by the place they are shown in; each may set what recommend has.",
    "clean": "What is refused and what is flagged on the way in.",
    "clean.aliases": "Your own names of event types, and Limner's for each.",
    "clean.tz": "The zone of times that name none.",
    "clean.time_format": "How times are written, in strptime's codes; unset: any ISO form or unit.",
    "clean.earliest": "A time before this (µs since 1970) is impossible; 1990-01-01.",
    "clean.ahead": "A time more than this after now (µs) is impossible; a day.",
    "clean.keep_identical": "Types in which identical lines are separate events.",
    "clean.outlier_cut": "Flagged as an outlier: so many robust deviations from the median.",
    "clean.outlier_least": "Nothing is flagged before so many observations.",
    "clean.robot_items": "Flagged as a robot: so many different items looked at within …",
    "clean.robot_seconds": "… so many seconds.",
    "clean.robot_day_least": "Or a day of more events than this, and …",
    "clean.robot_day_cut": "… so many robust deviations above the median of all users' days.",
    "clean.units": "The unit an event type's values come in, where rows do not say: cents, ms, "
    "percent and the like are converted.",
    "clean.currency": "The unit of money, for unit = infer.",
    "clean.missing": "What is done where a field is missing: refuse, infer or default:VALUE.",
    "clean.standardise": "Amounts that get a column properties.NAME_z beside them: (x − μ)/σ.",
    "clean.off": "Rules that are not asked.",
    "privacy": "What is taken from each row before anything keeps it.",
    "privacy.fields": "Field → what is done to it: drop, hash, round:N, truncate:N, hour or day. A "
    "field is a column of the event, properties.NAME, user.NAME or item.NAME.",
    "recommend": "How lists are made.",
    "recommend.n": "Their length.",
    "recommend.repeats": "Whether items that a user already had, bought or only looked at, may "
    "come again: true, false, or learned: what was bought may, if such things are bought again.",
    "recommend.kind": "The attribute by whose values it is learned what is bought again.",
    "recommend.families": "What scores: families by name; none for the blend.",
    "recommend.filter": "A condition that items must meet, or a list of them.",
    "recommend.boosts": "Condition → what is added to the score, in its standard deviations.",
    "recommend.freshness": "What is added to an item that came just now, in the same unit.",
    "recommend.fresh_half_life": "… and half as much after so long.",
    "recommend.fade": "What an item loses that was listed of late and passed over.",
    "recommend.pinned": "Items that come first.",
    "recommend.excluded": "Items that never come.",
    "recommend.diversity": "From 0, by score alone, to 1, by unlikeness alone.",
    "recommend.caps": "At most so many items of a list with the same value of an attribute.",
    "recommend.within": "Among how many of the best scores these steps choose.",
    "recommend.explore": "Slots of lists that are logged that go to what might be better.",
    "recommend.explore.policy": "off, thompson (drawn from what is believed) or linucb (certain).",
    "recommend.explore.share": "Of a list's slots, rounded down.",
    "recommend.explore.floor": "So far below the last of the list a score may lie, in standard "
    "deviations.",
    "recommend.explore.within": "Among how many of the best scores.",
    "recommend.explore.spread": "How many times what is not known is explored.",
    "recommend.explore.draws": "From which propensities are counted.",
    "recommend.explore.horizon": "For how long what follows a list counts as its reward.",
    "recommend.explore.half_life": "Of what was learned; empty for ever.",
    "recommend.explore.rewards": "Of an event by its type, over weights.",
    "train": "How models are trained.",
    "train.sequence": "Whether the sequence model takes part, where PyTorch is installed.",
    "train.policy": "Whether what lists earned is learned from too: the family policy.",
    "train.seed": "Makes runs repeatable.",
    "train.refresh": 'When a server trains by itself: "cron 0 3 * * 1", "every 7d"; empty: never.',
    "train.update": "When a server learns what is new, if it is no loss; empty: never.",
    "train.vector": "When the model's view of a user follows the events: a policy as facets have.",
    "train.keep": "How many versions of the model are kept to go back to.",
    "train.gate": "What it takes for an update to come into use, by NDCG at 10.",
    "train.gate.least": "Users that must have been asked for anything to be decided.",
    "train.gate.tie": "Users it takes where an update is ahead, but not beyond chance.",
    "train.gate.margin": "By how much it may then be behind, at most.",
    "train.gate.level": "How sure a difference must be.",
    "sequence": "How the sequence model is built and trained, where it takes part.",
    "sequence.kind": "What mixes the moments: transformer, gru, lstm, cnn or mlp.",
    "sequence.depth": "The dial: so many blocks, and a width of 32 times it.",
    "sequence.length": "Moments of a history that are seen.",
    "sequence.passes": "Over the data, at most; unset: more, the smaller it is.",
    "sequence.patience": "Passes without a better value after which it ends.",
    "sequence.update_passes": "Over what is new in an update.",
    "sequence.distil": "How much an update holds on to the answers of before.",
    "sequence.tokens": "Moments of a batch.",
    "sequence.accumulate": "Batches of a step.",
    "sequence.learning_rate": "At width 64; it falls with the square root of the width.",
    "sequence.weight_decay": "How strongly parameters are drawn to 0.",
    "sequence.dropout": "Unset: the more, the more often the data is passed over.",
    "sequence.hide": "The share of events that a training does not see, others each time.",
    "sequence.beyond": "What the moment after the next counts as a target; 0: only the next.",
    "sequence.repeat_weight": "What a target counts that the user already had.",
    "sequence.negatives": "Sampled items of a softmax that is not over all.",
    "sequence.full_softmax_below": "From so many items on it is not.",
    "sequence.half_life_days": "Of the popularity that scores begin from.",
    "sequence.popularity": "Whether they begin from it.",
    "sequence.asked_later": "Whether it is told how long after the newest moment it is asked.",
    "sequence.holdout": "The share of users whose last moment judges a training.",
    "sequence.members": "Networks trained from seeds of their own, whose answers are averaged.",
    "sequence.threads": "PyTorch's, at most.",
    "sequence.device": "cpu, or cuda and the like.",
    "sequence.bfloat16": "Matrix products in half precision.",
    "sequence.compile": "Train through this backend of torch.compile, such as inductor.",
    "sequence.seed": "Added to train.seed.",
    "encoders": "What turns items' text, images and sound into vectors: default, off, or a model "
    "on disk (an ONNX file, or for text a sentence-transformers folder).",
    "encoders.text": "… or for text the address of an OpenAI-compatible endpoint, http://…/v1.",
    "encoders.image": "What reads the attribute image.",
    "encoders.audio": "What reads the attribute audio.",
    "encoders.model": "Which of the endpoint's models.",
    "llm": "A language model that writes portraits, behind an OpenAI-compatible chat endpoint.",
    "llm.url": "Its address, such as http://localhost:8000/v1; empty: templates write.",
    "llm.model": "The model to ask for.",
    "llm.api_key": "The endpoint's key; better set as LIMNER_LLM_KEY.",
    "llm.timeout": "Seconds within which a whole answer must come, or templates write.",
    "llm.withhold": "Slots (section.name) that it is never given.",
    "llm.propose": "When a server lets it propose topics from users' texts; empty: when asked.",
    "encoders.api_key": "The endpoint's key; better set as LIMNER_EMBEDDINGS_KEY.",
    "encoders.timeout": "How long the endpoint may take, in seconds.",
    "encoders.retries": "How often it is asked again.",
    "encoders.folder": "Where the paths that items name begin, and end; empty: this file's folder.",
    "encoders.network": "Whether http(s) addresses that items name are fetched.",
    "encoders.threads": "Threads of an encoder.",
    "encoders.refresh": "When a server encodes what is new; empty: only when training.",
    "serve": "How the HTTP API listens.",
    "serve.host": "The address; other than this machine's own only with an api_key.",
    "serve.log": "A line a request on stderr: off, text or json.",
    "serve.traces": "Spans of OpenTelemetry: console, or a collector's URL; empty: none.",
    "serve.port": "The port; 0 for any that is free.",
    "serve.rate": "Requests a second that each key may send; 0 for any number.",
    "serve.origins": "Origins whose web pages may ask, such as https://shop.example.",
    "serve.api_key": "What requests must carry; empty: only this machine may ask. Better set as "
    "LIMNER_API_KEY than written here.",
    "population": "What users are compared by; slots are named section.name, empty for the "
    "domain's own.",
    "population.recency": "The slot, in days, that says how lately: for quintiles and segments.",
    "population.frequency": "The slot that says how often.",
    "population.monetary": "The slot that says for how much; it makes the tier too.",
    "population.interests": "The keyed slot whose shares make clusters.",
    "population.clusters": "At most so many clusters are tried; 0 for none.",
    "population.seed": "Makes clusters repeatable.",
    "refresh": "When a server brings up to date what belongs to no single user; empty: never.",
    "refresh.population": "Percentiles, tiers, and shares against everybody.",
    "refresh.snapshot": "The state on disk that makes a start quick.",
    "refresh.audiences": "Who came to an audience or left it by time alone.",
    "refresh.retention": "Taking out what is kept no longer.",
    "changes": "Which changes of portraits are told, and how many are kept.",
    "changes.shift": "The drift (0 to 1) from which on an interest has shifted; 0 tells of none.",
    "changes.turn": "The same for interest vectors (1 - cosine).",
    "changes.keep": "So many of the newest changes are kept for those who come later.",
    "webhooks": "An address of yours that changes are sent to.",
    "webhooks.name": "Unique; what `limner webhooks` calls it.",
    "webhooks.url": "The address.",
    "webhooks.kinds": "Only changes of these kinds; empty: of all.",
    "webhooks.secret": "What bodies are signed with, as limner webhooks secret makes one.",
    "webhooks.secret_env": "The environment variable that has the secret instead.",
    "webhooks.timeout": "Seconds until a target that does not answer counts as failed.",
    "webhooks.tries": "After so many a change is put on the list of the dead.",
    "facet": "A facet of your own, or one of the domain's replaced by its name.",
    "facet.name": "Unique; slots and evidence refer to it.",
    "facet.kind": "declared, count, sum, rate, recency, frequency, sessions, moments, quantiles, "
    "distinct, histogram, affinity, price_level, history, preference, proposed, sentiment, "
    "keywords, places, ties, interest_vector, topics or label.",
    "facet.section": "basic, behaviour, interests or value.",
    "facet.label": "What portraits call it.",
    "facet.where": 'Which events count: a value, a list of values, or ">0" and the like.',
    "facet.key": "What a keyed facet counts by: event_type, item_id, target_user_id, hour, "
    "weekday, item.NAME, properties.NAME.",
    "facet.bands": "Where the ranges of a number end that is a key.",
    "facet.cell": "Letters of the geohash cells that two numbers are cut to: 5 is 4.9 km.",
    "facet.of": "Columns summed above the line of a ratio.",
    "facet.over": 'Columns summed below it; "1" counts events.',
    "facet.only": "Which of these events count above the line.",
    "facet.among": "Which of these events count below the line.",
    "facet.texts": "The columns of text that are read.",
    "facet.reads": "The facet whose state a kind without one of its own reads.",
    "facet.half_life": "After what time an event counts half.",
    "facet.short_half_life": "The same for what is of interest lately.",
    "facet.gap": "The pause that ends a session.",
    "facet.bound": "How many keys or events are kept a user.",
    "facet.unit": "What a number is in: money, share, …",
    "facet.text": "How a number is said; {} stands for it.",
    "facet.refresh": 'When what is shown follows: on_read, on_event, "every 5m", "cron 0 3 * * 1", '
    'or "when purchase where value > 50".',
    "facet.weights": "Worth of event types for this facet, over `weights`.",
    "facet.options": "What a kind of your own needs.",
}
"""Every setting by its dotted name, and every table."""

_EXAMPLES: Mapping[str, Any] = {
    "recommend.filter": "in_stock != false",
    "recommend.boosts": {"price < 10": 0.5},
    "recommend.explore.rewards": {"click": 1.0},
    "sequence.passes": 20,
    "sequence.dropout": 0.5,
    "audiences": {"at_risk": 'value.rfm == "at risk"'},
    "scenario": {"cart": {"n": 4, "repeats": False}},
    "weights": {"view": 0.2, "purchase": 1.0},
    "retention": {"impression": "90d", "all": "3y"},
    "clean.aliases": {"looked at": "view"},
    "clean.time_format": "%d/%m/%Y %H:%M",
    "privacy.fields": {"user.age": "drop", "value": "round:0"},
    "webhooks.name": "shop",
    "webhooks.url": "https://shop.example/hooks",
    "webhooks.kinds": ["interest_shift"],
    "webhooks.secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "facet.name": "evenings",
    "facet.kind": "count",
    "facet.section": "behaviour",
    "facet.label": "what they look at",
    "facet.key": "item.category",
    "facet.where": {"event_type": "view"},
    "facet.only": {"value": ">0"},
    "facet.among": {"event_type": "impression"},
    "facet.options": {"level": 3},
    "facet.weights": {"view": 1.0},
}
"""What is shown where a default would say nothing."""


LISTS = ("webhooks", "facet")
"""Tables of which there may be several."""


def settings() -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name, with its default (MISSING where there is none)."""
    yield from _of(Config, "")
    yield from _of(WebhookConfig, "webhooks.")
    yield from _of(FacetConfig, "facet.")


def _of(cls: type[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        kind = hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type):
            yield from _of(kind, f"{prefix}{field.name}.")
        elif prefix + field.name not in LISTS:
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            yield prefix + field.name, default


def starter(domain: str) -> str:
    """The text of a new limner.toml.

    >>> import tomllib
    >>> tomllib.loads(starter("ecommerce"))
    {'domain': 'ecommerce'}
    """
    lines = ["# Settings of Limner. A line such as `# name = value` shows a default or an example:"]
    lines += ["# take its # away to change it. In full: docs/configuration.md", ""]
    table = ""
    for name, default in settings():
        head, _, key = name.rpartition(".")
        if head != table:
            table = head
            lines += ["", *_said(MEANINGS[head])]
            lines += [f"# [[{head}]]" if head in LISTS else f"# [{head}]", ""]
        lines += _said(MEANINGS[name])
        if name == "domain":
            lines += [f"domain = {_toml(domain)}", ""]
        else:
            lines += [f"# {key} = {_toml(_EXAMPLES.get(name, default))}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _said(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 96)]


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {_toml(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        return f"[{', '.join(_toml(inner) for inner in value)}]"
    return repr(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name, ensure_ascii=False)
