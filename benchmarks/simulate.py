"""A closed loop on the synthetic shop: recommend, see what is clicked, learn, and again.

    python -m benchmarks.simulate [--seeds N] [--weeks N] [--only ARM …] > simulate.json

Users have the drifting interests of `limner.sources.synthetic`. The first weeks are the generator's
own events, in which what is popular is looked at most; from then on all that is learned comes from
lists. An item is clicked with the probability .4 · look(place) · interest of the user in its
category (1 for the one liked best) · quality, where look is 1 ÷ log₂(1 + place). What is reported
is the expected clicks a list, the truth, of which the learners see draws only.

Settings: in "open" quality has nothing to do with popularity, and half of the items come while the
loop runs; in "settled" all items are there, and the more popular are the better.

What is clicked is known from the next day on. Arms, each in its own copy of the same world, asked
by the same users at the same times:
    greedy             Limner's blend, fitted again every week, its weights every four
    thompson, linucb   the same with a fifth of the slots explored
    sequence           the sequence model alone, fitted again every week
    policy             the policy head on that model, learned from all lists so far
    sequence+, policy+ the same two with a fifth of the slots explored by Thompson sampling
And once without a loop, "from a log": what the sequence model and the policy head learned from
lists that were drawn by popularity, whoever asked, for as many weeks. Differences are paired by
seed, with 95 % t intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.stats

from limner.events.batch import DAY, F64, I64
from limner.metrics.ranking import top_k
from limner.model.blend import Blend
from limner.model.network import SequenceConfig
from limner.model.policy import Decisions, Policy, PolicyConfig
from limner.model.protocol import History, Interactions, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.model.training import families, fit_all
from limner.recommend.bandit import Posterior, Sums
from limner.recommend.contexts import CONTEXT, WIDTH
from limner.recommend.explore import Exploration, ExploreConfig
from limner.sources import synthetic

N = 10
LOOK = 1 / np.log2(np.arange(N) + 2)
CLICKED = 0.4
ORGANIC = 56
"""Days of the generator's own events before the loop."""
POOL = 100
SETTINGS = ("open", "settled")
ARMS = ("greedy", "thompson", "linucb", "sequence", "policy", "sequence+", "policy+")


def quiet(stage: str, done: int, total: int) -> None:
    """No progress of a single fit."""


@dataclass(frozen=True, slots=True)
class World:
    """What is true: who asks when, who likes what, how good items are, and since when they are."""

    shop: synthetic.Shop
    quality: F64
    since: I64
    asks: list[tuple[int, int]]
    """(user, time) of every request, by time."""

    @classmethod
    def of(cls, setting: str, seed: int, weeks: int, daily: int) -> World:
        """Repeatable: the same for every arm."""
        shop = synthetic.Shop(
            events=9_000, users=150, items=400, categories=20, seed=seed, days=ORGANIC,
            drift_days=60.0,
        )  # fmt: skip
        rng = np.random.default_rng([seed, SETTINGS.index(setting)])
        rank = np.arange(shop.items) // shop.categories
        quality = rng.beta(1.5, 3.0, shop.items)
        since = np.zeros(shop.items, dtype=np.int64)
        start = shop.start + ORGANIC * DAY
        if setting == "settled":
            best_first = -np.sort(-quality.reshape(-1, shop.categories), axis=0)
            quality = best_first[rank, np.arange(shop.items) % shop.categories]
        else:
            late = rng.permutation(shop.items)[: shop.items // 2]
            since[late] = start + rng.integers(0, weeks * 7, len(late)) * DAY
        share = 1.0 / (np.arange(shop.users) + 20.0)
        asks = [
            (int(user), int(start + day * DAY + place * DAY // daily))
            for day in range(weeks * 7)
            for place, user in enumerate(rng.choice(shop.users, daily, p=share / share.sum()))
        ]
        return cls(shop, quality, since, asks)

    def chances(self, users: I64, times: I64) -> F64:
        """How probable a click on each item is, if it is looked at, (n, items)."""
        liked = synthetic.interests(self.shop, users, times)
        liked /= liked.max(axis=1, keepdims=True)
        category = np.arange(self.shop.items) % self.shop.categories
        chances: F64 = CLICKED * liked[:, category] * self.quality
        return chances

    def features(self) -> ItemFeatures:
        """What an item says of itself: its category and kind."""
        category = np.arange(self.shop.items) % self.shop.categories
        kind = category * 4 + np.arange(self.shop.items) // self.shop.categories % 4
        return ItemFeatures(
            {"category": category.astype(np.int32), "type": kind.astype(np.int32)},
            {"category": [str(c) for c in range(self.shop.categories)],
             "type": [str(k) for k in range(4 * self.shop.categories)]},
            np.ones(self.shop.items, dtype=bool),
        )  # fmt: skip

    def organic(self) -> list[tuple[int, int, int]]:
        """(user, item, time) of the generator's events, of items that are there."""
        out = []
        for part in synthetic._numbered(self.shop):
            seen = part["type"] != 0
            for user, item, when in zip(
                part["user"][seen], part["item"][seen], part["time"][seen], strict=True
            ):
                if self.since[item] <= when:
                    out.append((int(user), int(item), int(when)))
        return out


@dataclass(slots=True)
class Log:
    """What an arm has seen: events, and lists with clicks and what each slot was given by."""

    events: list[tuple[int, int, int]]
    lists: list[tuple[int, int, list[int], list[float], list[float]]] = field(default_factory=list)
    histories: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for user, item, when in self.events:
            self.histories.setdefault(user, []).append((item, when))

    def click(self, user: int, item: int, when: int) -> None:
        self.events.append((user, item, when))
        self.histories.setdefault(user, []).append((item, when))

    def history(self, user: int, now: int, length: int = 100) -> History:
        rows = self.histories.get(user, [])[-length:]
        items = np.array([item for item, _ in rows], dtype=np.int32)
        times = np.array([when for _, when in rows], dtype=np.int64)
        none = np.full(len(rows), -1, dtype=np.int64)
        return History(items, times, np.ones(len(rows)), none, none, now)

    def interactions(self, users: int, items: int) -> Interactions:
        user, item, when = (np.array(column) for column in zip(*self.events, strict=True))
        order = np.lexsort((np.arange(len(user)), when, user))
        return Interactions(
            np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))]),
            item[order].astype(np.int32),
            when[order],
            np.ones(len(order)),
            np.full(len(order), -1),
            order.astype(np.int64),
            items,
        )

    def decisions(self, data: Interactions) -> Decisions:
        """All lists so far; a probability that was drawn is told."""
        histories = [data.history(user, when, last=100) for user, when, *_ in self.lists]
        owner = np.repeat(np.arange(len(self.lists)), [len(one[2]) for one in self.lists])
        items, clicks, given = (
            np.concatenate([one[place] for one in self.lists]) for place in (2, 3, 4)
        )
        return Decisions(
            histories, owner, items.astype(np.int32), clicks.astype(np.float64),
            np.where(given < 1.0, given / N, np.nan),
        )  # fmt: skip


def contexts(
    world: World, parts: Mapping[str, F64], score: F64, pool: I64, history: History
) -> F64:
    """Those of `limner.recommend.contexts`, as far as there is anything to say here."""
    out = np.zeros((len(pool), WIDTH))
    fresh = np.exp2(-(history.now - world.since) / (14 * DAY)) * (world.since > 0)
    for name, column in {"score": score, **parts, "new": fresh}.items():
        if name in CONTEXT:
            values = column[pool]
            sd = values.std()
            out[:, CONTEXT.index(name)] = (values - values.mean()) / sd if sd > 1e-12 else 0.0
    out[:, 0] = 1.0
    out[:, CONTEXT.index("had")] = np.isin(pool, history.items)
    return out.clip(-5, 5)


def run(setting: str, arm: str, seed: int, *, weeks: int, daily: int) -> F64:
    """Expected clicks a list of each week, (weeks,)."""
    world = World.of(setting, seed, weeks, daily)
    features, log = world.features(), Log(world.organic())
    names = [str(item) for item in range(world.shop.items)]
    kind = {"greedy": "off", "linucb": "linucb"}.get(arm, "thompson")
    explores = ExploreConfig(kind, draws=50)  # type: ignore[arg-type]
    exploring = arm in ("thompson", "linucb", "sequence+", "policy+")
    sums = Sums(WIDTH, half_life=60.0 * DAY)
    rng = np.random.default_rng([seed, 7])
    earned = np.zeros(weeks)
    start = world.shop.start + ORGANIC * DAY
    blend = learned(arm, log, world, features, seed)
    for day in range(weeks * 7):
        if day and day % 28 == 0:
            blend = learned(arm, log, world, features, seed)
        elif day and day % 7 == 0:
            blend = again(arm, blend, log, world, features, seed)
        today = world.asks[day * daily : (day + 1) * daily]
        histories = [log.history(user, now) for user, now in today]
        tables = blend.parts(histories, "next")
        chances = world.chances(*np.array(today).T)
        posterior, there = Posterior.of(sums), world.since <= start + day * DAY
        for place, ((user, now), history) in enumerate(zip(today, histories, strict=True)):
            parts = {name: table[place] for name, table in tables.items()}
            score = np.sum(list(parts.values()), axis=0)
            pool = top_k(np.where(there, score, -np.inf)[None], POOL)[0]
            listed, given = pool[:N].tolist(), dict.fromkeys(pool[:N].tolist(), 1.0)
            if exploring:
                x = contexts(world, parts, score, pool, history)
                seen = dict(zip(pool.tolist(), x, strict=True))
                asked = Exploration(
                    explores,
                    posterior,
                    lambda items, seen=seen: np.stack([seen[item] for item in items]),  # type: ignore[misc]
                    names,
                    f"{seed * 1_000_003 + day * daily + place:x}",
                )
                listed, given = asked.listed(
                    listed, pool.tolist(), 0, score, float(score[there].std()), []
                )
            chance = chances[place, listed] * LOOK[: len(listed)]
            earned[day // 7] += chance.sum()
            clicks = rng.random(len(listed)) < chance
            probable = [given[item] for item in listed]
            log.lists.append((user, now, listed, clicks.astype(float).tolist(), probable))
            for item in np.array(listed)[clicks].tolist():
                log.click(user, item, now)
            if exploring:
                rows = np.stack([seen[item] for item in listed])
                sums.add(rows, [names[item] for item in listed], clicks.astype(float), now)
    return earned / (7 * daily)


def again(
    arm: str, blend: Blend, log: Log, world: World, features: ItemFeatures, seed: int
) -> Blend:
    """The same with the weights of the blend as they were."""
    if "sequence" in blend.models or "policy" in blend.models:
        return learned(arm, log, world, features, seed)
    blend.refit(log.interactions(world.shop.users, world.shop.items), features, progress=quiet)
    return blend


def learned(arm: str, log: Log, world: World, features: ItemFeatures, seed: int) -> Blend:
    """What an arm scores by, from all it has seen."""
    data = log.interactions(world.shop.users, world.shop.items)
    if arm in ("greedy", "thompson", "linucb"):
        models = families(features, seed=seed, sequence=None)
        return fit_all(data, features, models=models, seed=seed, progress=quiet)
    trunk = SequenceModel(SequenceConfig(depth=1, passes=4, length=30, seed=seed, holdout=0.0))
    trunk.fit(data, features, progress=quiet)
    if arm.startswith("policy") and log.lists:
        policy = Policy(trunk, PolicyConfig(seed=seed))
        policy.learn(log.decisions(data), progress=quiet)
        return Blend({"policy": policy}, {"next": {"policy": 1.0}})
    return Blend({"sequence": trunk}, {"next": {"sequence": 1.0}})


def from_log(seed: int, *, weeks: int, daily: int) -> dict[str, float]:
    """Expected clicks a list of policies that learned from a log that another one made.

    For `weeks` everybody is shown ten items drawn by their rank alone, whoever asks; then each is
    asked for two weeks, without learning more.
    """
    world = World.of("open", seed, weeks + 2, daily)
    features, log = world.features(), Log(world.organic())
    rng = np.random.default_rng([seed, 11])
    rank = np.arange(world.shop.items) // world.shop.categories
    earned = dict.fromkeys(("the log's", "sequence", "policy", "policy, no cap"), 0.0)
    asks, stop = world.asks[: weeks * 7 * daily], weeks * 7 * daily
    chances = world.chances(*np.array(asks).T)
    for row, (user, now) in enumerate(asks):
        drawn = -np.log(rank + 1.0) + rng.gumbel(size=len(rank))  # Plackett and Luce
        listed = top_k(np.where(world.since <= now, drawn, -np.inf)[None], N)[0]
        chance = chances[row, listed] * LOOK
        earned["the log's"] += chance.sum() / stop
        clicks = rng.random(N) < chance
        log.lists.append((user, now, listed.tolist(), clicks.astype(float).tolist(), [1.0] * N))
        for item in listed[clicks].tolist():
            log.click(user, item, now)
    data = log.interactions(world.shop.users, world.shop.items)
    trunk = SequenceModel(SequenceConfig(depth=1, passes=8, length=30, seed=seed, holdout=0.0))
    trunk.fit(data, features, progress=quiet)
    policies: dict[str, Any] = {"sequence": trunk}
    for name, cap in (("policy", PolicyConfig().cap), ("policy, no cap", 1e9)):
        policies[name] = Policy(trunk, PolicyConfig(cap=cap, seed=seed))
        policies[name].learn(log.decisions(data), progress=quiet)
    asks = world.asks[stop:]
    chances = world.chances(*np.array(asks).T)
    there = np.array([world.since <= now for _, now in asks])
    for name, policy in policies.items():
        scores = np.array(policy.score([log.history(user, now) for user, now in asks]))
        lists = top_k(np.where(there, scores, -np.inf), N)
        earned[name] = float((np.take_along_axis(chances, lists, axis=1) @ LOOK).mean())
    return earned


def interval(values: F64) -> dict[str, float]:
    """The mean over seeds with its 95 % t interval."""
    n = len(values)
    wide = float(scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0
    mean = float(values.mean())
    return {"mean": mean, "low": mean - wide, "high": mean + wide}


def measured(
    arms: Sequence[str],
    *,
    seeds: int,
    weeks: int,
    daily: int,
    settings: Sequence[str] = SETTINGS,
    logged: bool = True,
) -> dict[str, Any]:
    """Clicks a list of every arm, over all weeks and in the last four, as JSON values."""
    started = time.perf_counter()
    out: dict[str, Any] = {"seeds": seeds, "weeks": weeks, "lists a week": 7 * daily}
    against = {"thompson": "greedy", "linucb": "greedy", "policy": "sequence",
               "policy+": "sequence+", "sequence+": "sequence"}  # fmt: skip
    for setting in settings:
        found = {}
        for arm in arms:
            runs = []
            for seed in range(seeds):
                runs.append(run(setting, arm, seed, weeks=weeks, daily=daily))
                print(f"{time.perf_counter() - started:7.1f} s  {setting} {arm} seed {seed}: "
                      f"{runs[-1].mean():.4f}, last weeks {runs[-1][-4:].mean():.4f}",
                      file=sys.stderr, flush=True)  # fmt: skip
            found[arm] = np.array(runs)
        out[setting] = {}
        for arm, by_week in found.items():
            row: dict[str, Any] = {
                "clicks": interval(by_week.mean(axis=1)),
                "last four weeks": interval(by_week[:, -4:].mean(axis=1)),
                "by week": by_week.mean(axis=0).round(4).tolist(),
            }
            other = found.get(against.get(arm, ""))
            if other is not None:
                row["over " + against[arm]] = {
                    "clicks": interval((by_week - other).mean(axis=1)),
                    "last four weeks": interval((by_week - other)[:, -4:].mean(axis=1)),
                }
            out[setting][arm] = row
    logs = [from_log(seed, weeks=weeks, daily=daily) for seed in range(seeds)] if logged else []
    if logs:
        values = {name: np.array([one[name] for one in logs]) for name in logs[0]}
        out["from a log"] = {
            name: {
                "clicks": interval(found),
                "over sequence": interval(found - values["sequence"]),
            }
            for name, found in values.items()
        }
    out["seconds"] = round(time.perf_counter() - started, 1)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--weeks", type=int, default=16)
    parser.add_argument("--daily", type=int, default=40, help="lists a day")
    parser.add_argument("--only", nargs="*", choices=ARMS, default=ARMS)
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--logged", action=argparse.BooleanOptionalAction, default=True,
                        help="learn from a log, too")  # fmt: skip
    given_ = parser.parse_args()
    json.dump(
        measured(given_.only, seeds=given_.seeds, weeks=given_.weeks, daily=given_.daily,
                 settings=given_.settings, logged=given_.logged),
        sys.stdout, indent=2,
    )  # fmt: skip
    print()
