"""Every family alone, the blend, and whoever or whatever is new, in one table a data set.

    python -m benchmarks.families complete-journey|ml-100k [--validation] [--without-sequence]

One cutoff in time: what came before it is learned and folded, and what came after is asked, over
the whole catalogue. The Complete Journey: each household's first basket from the cutoff on, repeats
counted ("next") and left out ("new"). ML-100K: each rating of something new from the cutoff on,
with what its user had rated by then. The trained families and the blend's weights are those of
`limner evaluate`; the live families read a store that holds what came before the cutoff.

Who is new is a known user of whom some is forgotten: everything but what is declared, everything
but the last one, two or three events, or everything but the session (of half a basket, or of half
an hour) and the name. Their own past is out of what they are compared with. What is new is an item
without any event before the cutoff: lists of 10 of these alone, against random ones.

With `--validation` the period before the test is asked, and the test is not read. `LIMNER_DATA`
names the folder that holds ml-100k. Writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv

from benchmarks.next_basket import complete_journey, moment
from limner.app import Limner
from limner.config import parse
from limner.evaluate.asked import between, first_only
from limner.evaluate.ranked import fit_models, learn_blend
from limner.events.batch import F64, I64, SECOND, Bool
from limner.metrics.intervals import bootstrap_interval, paired_bootstrap
from limner.metrics.ranking import hit_rate, hits, ndcg, top_k
from limner.metrics.splits import Truth
from limner.model.blend import Blend, Task, candidate_ndcg, candidates, learn_weights
from limner.model.known import visits
from limner.model.network import SequenceConfig
from limner.model.protocol import F32, History, Interactions, ItemFeatures
from limner.model.training import families, fit_before, questions, weights_apart
from limner.recommend.families import LIVE, Mixture
from limner.sources import completejourney
from limner.sources.dataset import load

K = 10
SESSION = 1800 * SECOND
_USERS = 32
CASES, SLOW = 800, 400
"""Questions of each case of who is new, and of the family "group", which takes longest: a seeded
sample of them."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A data set, its users' declared attributes, and the cutoffs: (validation, test) µs."""

    name: str
    data: Interactions
    features: ItemFeatures
    declared: pa.Table
    cutoffs: tuple[int, int]
    baskets: bool


@dataclass(frozen=True, slots=True)
class Questions:
    """Whose, what came next, and what is known of them by then."""

    truth: Truth
    histories: list[History]

    def take(self, keep: Bool) -> Questions:
        """Some of them."""
        rows = np.flatnonzero(keep)
        return Questions(self.truth.take(keep), [self.histories[row] for row in rows])

    def some(self, n: int) -> Questions:
        """At most n of them."""
        keep = np.zeros(len(self.histories), dtype=bool)
        keep[np.random.default_rng(0).permutation(len(keep))[:n]] = True
        return self.take(keep)


Scorer = Callable[[Sequence[History]], Any]


def complete(validation: bool) -> Shop:
    """The Complete Journey: what is asked is December, or with `validation` November."""
    data, features = complete_journey()
    names = {"product_category": "category", "product_type": "type"}
    features = replace(
        features,
        codes={names.get(n, n): c for n, c in features.codes.items()},
        values={names.get(n, n): v for n, v in features.values.items()},
    )
    declared = completejourney.users()
    raw = completejourney._read("transactions")["household_id"].to_numpy()
    place = {str(user): n for n, user in enumerate(np.unique(raw).tolist())}
    ids = [f"u{place[user]}" for user in declared["user_id"].to_pylist()]
    declared = declared.set_column(declared.column_names.index("user_id"), "user_id", pa.array(ids))
    days = ("2017-10-01", "2017-11-01") if validation else ("2017-11-01", "2017-12-01")
    end = moment("2017-12-01")
    return Shop(
        "complete-journey",
        data.before(end) if validation else data,
        features,
        declared,
        (moment(days[0]), moment(days[1])),
        True,
    )


def movies(validation: bool) -> Shop:
    """ML-100K: what is asked is the last tenth of its time, or the last tenth before that."""
    folder = Path(os.environ["LIMNER_DATA"]) / "ml-100k"
    read = load(folder)
    data = first_only(read.interactions)
    start, end = int(data.times.min()), int(data.times.max())
    test = int(end - 0.1 * (end - start))
    cut = int(test - 0.1 * (test - start))
    if validation:
        data, test, cut = data.before(test), cut, int(cut - 0.1 * (cut - start))
    names = {"class": "category"}
    features = replace(
        read.features,
        codes={names.get(n, n): c for n, c in read.features.codes.items()},
        values={names.get(n, n): v for n, v in read.features.values.items()},
    )
    users = pcsv.read_csv(folder / "ml-100k.user", parse_options=pcsv.ParseOptions(delimiter="\t"))
    place = {user: n for n, user in enumerate(read.user_ids)}
    ids = [f"u{place[str(user)]}" for user in users["user_id:token"].to_pylist()]
    age = [f"{int(a) // 10 * 10}s" for a in users["age:token"].to_pylist()]
    declared = pa.table(
        {"user_id": ids, "age": age, "gender": users["gender:token"],
         "occupation": users["occupation:token"]}
    )  # fmt: skip
    return Shop("ml-100k", data, features, declared, (cut, test), False)


def opened(shop: Shop, cutoff: int) -> Limner:
    """A store in memory that holds the items, what users declared, and the events before."""
    app = Limner.open("memory://", config=parse({"clock": "events", "store": "memory://"}))
    names = [f"i{n}" for n in range(shop.data.n_items)]
    columns: dict[str, Any] = {"item_id": names}
    for name, codes in shop.features.codes.items():
        values = np.array([*shop.features.values[name], None], dtype=object)
        columns[name.replace(".", "_")] = values[codes].tolist()
    app.import_file(pa.table(columns), kind="items")
    app.import_file(shop.declared, kind="users")
    past = shop.data.before(cutoff)
    owner = np.repeat(np.arange(past.n_users), np.diff(past.offsets))
    order = np.argsort(past.times, kind="stable")
    app.import_file(
        pa.table(
            {
                "user_id": [f"u{n}" for n in owner[order]],
                "item_id": [names[n] for n in past.items[order]],
                "event_type": ["purchase"] * len(order),
                "timestamp": pa.array(past.times[order], pa.timestamp("us", "UTC")),
                **({"group_id": [f"b{n}" for n in past.groups[order]]} if shop.baskets else {}),
            }
        )
    )
    app.refresh_population()
    assert app.state.catalog.ids.values[: len(names)] == names
    return app


def asked(shop: Shop, cutoff: int, app: Limner | None) -> Questions:
    """What is asked after a cutoff; `row` of each history is the user's in the store."""
    if shop.baskets:
        truth, found = questions(shop.data, cutoff)
        histories = list(found)
    else:
        some = between(shop.data, cutoff, int(shop.data.times.max()) + 1)
        truth = Truth(some.users, [np.array([item], dtype=np.int32) for item in some.truth])
        histories = some.histories()
    if app is not None:
        rows = {user: app._row(f"u{user}") for user in np.unique(truth.users).tolist()}
        histories = [
            replace(history, row=rows[user])
            for history, user in zip(histories, truth.users.tolist(), strict=True)
        ]
    return Questions(truth, histories)


def live(app: Limner, name: str, n_items: int) -> Scorer:
    """A live family as what scores histories."""
    mixture = Mixture(app.state, None, (), app.population)

    def score(histories: Sequence[History]) -> F32:
        found = [LIVE[name](mixture, history)[:n_items] for history in histories]
        return np.stack(found).astype(np.float32)

    return score


@dataclass(frozen=True, slots=True)
class Named:
    """A scorer as a model, for learning weights."""

    name: str
    score: Scorer


def fitted(
    shop: Shop, sequence: bool, progress: Callable[[str, int, int], None]
) -> tuple[Blend, dict[str, Any]]:
    """The families before the test with the weights of the validation, and what live families
    would have added there.
    """
    learn, test = shop.cutoffs
    wanted = SequenceConfig() if sequence else None
    models = families(shop.features, sequence=wanted)
    past = shop.data.before(test)
    if shop.baskets:
        blend = fit_before(past, shop.features, cutoff=learn, models=models, progress=progress)
    else:
        held = between(past, learn, test)
        fit_models(
            models, past.before(learn), shop.features, held=held, seconds={}, progress=progress
        )
        usual = learn_blend(models, held, progress=progress)
        weights: dict[str, dict[str, float]] = {"next": usual, "new": usual}
        answers = Truth(held.users, list(held.truth.astype(np.int32)[:, None]))
        visiting = visits(past, learn, np.random.default_rng(0))
        apart = weights_apart(
            models, weights, (answers, held.histories()), visiting,
            tasks=("new",), progress=progress,
        )  # fmt: skip
        blend = Blend(models, {**weights, **apart})
    progress("live families in the blend", 0, 1)
    before = replace(shop, data=past, cutoffs=(learn, learn))
    with opened(before, learn) as app:
        some = asked(before, learn, app).some(CASES)
        lives = {name: live(app, name, past.n_items) for name in LIVE if name != "group"}
        trained: dict[str, Scorer] = {name: model.score for name, model in models.items()}
        added = with_live(trained, lives, some, "new")
    blend.refit(past, shop.features, progress=progress)
    return blend, added


def judged(
    systems: Mapping[str, Scorer],
    some: Questions,
    task: Task,
    blend: Blend | None = None,
    pool: Bool | None = None,
) -> tuple[dict[str, dict[str, F64]], I64]:
    """(system → metric → a value a question, whose each is); `pool`: the only items listed."""
    values: dict[str, list[F64]] = {}
    users: list[I64] = []
    places = np.flatnonzero(pool) if pool is not None else np.zeros(0, dtype=np.int64)
    for start in range(0, len(some.histories), _USERS):
        histories = some.histories[start : start + _USERS]
        true = list(some.truth.items[start : start + _USERS])
        tables = {name: np.array(score(histories)) for name, score in systems.items()}
        if blend is not None:
            blended = np.zeros_like(next(iter(tables.values())))
            for name, weight in blend.weighing(histories, task).items():
                blended += tables[name] * weight[:, None].astype(np.float32)
            tables = {"blend": blended, **tables}
        if task == "new":
            for row, history in enumerate(histories):
                for table in tables.values():
                    table[row, history.items] = -np.inf
                true[row] = np.setdiff1d(true[row], history.items)
        if pool is not None:
            true = [items[pool[items]] for items in true]
        sizes = np.array([len(items) for items in true])
        for name, table in tables.items():
            if pool is not None:  # ties by item number would favour what came early
                table = table[:, places] + np.random.default_rng(0).random(len(places)) * 1e-7
            listed = top_k(table, K)
            if pool is not None:
                listed = np.where(listed < 0, -1, places[listed])
            found = hits(listed, true)
            one = np.stack([hit_rate(found, K), ndcg(found, sizes, K)])
            values.setdefault(name, []).append(one[:, sizes > 0])
        users.append(some.truth.users[start : start + _USERS][sizes > 0])
    out = {}
    for name, parts in values.items():
        joined = np.concatenate(parts, axis=1)
        out[name] = {"hit_rate": joined[0], "ndcg": joined[1]}
    return out, np.concatenate(users) if users else np.zeros(0, np.int64)


def said(found: Mapping[str, Mapping[str, F64]], users: I64, main: str = "blend") -> dict[str, Any]:
    """Means with intervals, and how far `main` is ahead of each, over users resampled whole."""
    out: dict[str, Any] = {"questions": len(users), "users": len(np.unique(users)), "systems": {}}
    for name, by_metric in found.items():
        out["systems"][name] = {
            metric: asdict(bootstrap_interval(values, users=users))
            for metric, values in by_metric.items()
        }
        if name != main and main in found:
            out["systems"][name]["behind"] = {
                metric: asdict(paired_bootstrap(found[main][metric], values, users=users))
                for metric, values in by_metric.items()
            }
    return out


def with_live(models: Mapping[str, Scorer], lives: Mapping[str, Scorer], some: Questions,
              task: Task) -> dict[str, Any]:  # fmt: skip
    """What live families would add to the blend: weights learned on half of the users with them
    and without, judged on the other half, both ways; of candidates, NDCG.
    """
    every: dict[str, Any] = {n: Named(n, s) for n, s in {**models, **lives}.items()}
    found = candidates(every, some.histories, some.truth, tasks=(task,), progress=lambda *_: None)[
        task
    ]
    without = replace(found, scores=found.scores[:, :, : len(models)])
    half = np.random.default_rng(0).permutation(len(found.sizes)) % 2 == 0
    gains = []
    for learn, judge in ((half, ~half), (~half, half)):
        ndcgs = [
            candidate_ndcg(of.take(judge), learn_weights(of.take(learn))) for of in (found, without)
        ]
        gains.append((ndcgs[0], ndcgs[1]))
    ours, theirs = (np.concatenate(parts) for parts in zip(*gains, strict=True))
    weights = learn_weights(found)
    return {
        "gain": asdict(paired_bootstrap(ours, theirs)),
        "without": float(theirs.mean()),
        "weights": {name: round(float(w), 4) for name, w in zip(every, weights, strict=True)},
    }


def forgotten(some: Questions, shop: Shop) -> dict[str, Questions]:
    """Users as if they were new."""
    cases: dict[str, Questions] = {}

    def over(change: Callable[[History], History]) -> Questions:
        return Questions(some.truth, [change(history) for history in some.histories])

    known = set(shop.declared["user_id"].to_pylist())
    declared = np.array([f"u{user}" in known for user in some.truth.users.tolist()])
    nobody = over(lambda history: history.without(np.arange(len(history))))
    cases["declared only"] = nobody.take(declared)
    for k in (1, 2, 3):
        cases[f"{k} event" + "s" * (k > 1)] = over(
            lambda history, k=k: history.without(np.arange(max(len(history) - k, 0)))  # type: ignore[misc]
        )
    if shop.baskets:
        kept, rest, rows = [], [], []
        for row, (history, items) in enumerate(zip(some.histories, some.truth.items, strict=True)):
            if len(items) < 2:
                continue
            order = np.random.default_rng(row).permutation(items)
            first = order[: len(items) // 2].astype(np.int32)
            n = len(first)
            kept.append(
                History(first, np.full(n, history.now - SECOND), np.ones(n), np.zeros(n, np.int64),
                        np.full(n, -1), history.now)
            )  # fmt: skip
            rest.append(np.sort(order[len(first) :]))
            rows.append(row)
        cases["session"] = Questions(Truth(some.truth.users[rows], rest), kept)
    else:
        recent = [
            replace(h.without(np.flatnonzero(h.times < h.now - SESSION)), row=-1)
            for h in some.histories
        ]
        cases["session"] = Questions(some.truth, recent).take(
            np.array([len(h) > 0 for h in recent])
        )
    return cases


def new_items(shop: Shop, systems: Mapping[str, Scorer], some: Questions) -> dict[str, Any]:
    """Lists of new items alone against random ones: hit rates, and their ratio."""
    before = shop.data.times < shop.cutoffs[1]
    pool = np.ones(shop.data.n_items, dtype=bool)
    pool[shop.data.items[before]] = False
    cold = some.take(np.array([bool(pool[items].any()) for items in some.truth.items], dtype=bool))
    if not len(cold.histories):
        return {"pool": int(pool.sum()), "questions": 0}
    found, users = judged(systems, cold, "new", pool=pool)
    size, n = int(pool.sum()), np.array([int(pool[i].sum()) for i in cold.truth.items])
    chance = 1 - np.prod(
        [(size - n - place).clip(0) / (size - place) for place in range(min(K, size))], axis=0
    )
    out: dict[str, Any] = {"pool": size, **said(found, users), "random": float(chance.mean())}
    rng = np.random.default_rng(0)
    who, place = np.unique(users, return_inverse=True)
    counts = rng.multinomial(len(who), np.full(len(who), 1 / len(who)), 2000)
    chances = counts @ np.bincount(place, chance)
    for name, by_metric in found.items():
        ratios = (counts @ np.bincount(place, by_metric["hit_rate"])) / chances
        low, high = np.quantile(ratios, [0.025, 0.975])
        mean = float(by_metric["hit_rate"].mean() / chance.mean())
        out["systems"][name]["times_random"] = {"mean": mean, "low": low, "high": high}
    return out


def measured(name: str, *, validation: bool, sequence: bool) -> dict[str, Any]:
    """All of it for a data set, as JSON values; what is done goes to stderr."""
    started = time.perf_counter()
    last = [""]

    def progress(stage: str, done: int, total: int) -> None:
        if stage != last[0]:
            print(f"{time.perf_counter() - started:7.1f} s  {stage}", file=sys.stderr, flush=True)
        last[0] = stage

    shop = (movies if name == "ml-100k" else complete)(validation)
    blend, added = fitted(shop, sequence, progress)
    progress("opening a store", 0, 1)
    app = opened(shop, shop.cutoffs[1])
    some = asked(shop, shop.cutoffs[1], app)
    lives = {one: live(app, one, shop.data.n_items) for one in LIVE}
    trained: dict[str, Scorer] = {one: model.score for one, model in blend.models.items()}
    out: dict[str, Any] = {
        "data": name,
        "asked": "validation" if validation else "test",
        "weights": {name: dict(weights) for name, weights in blend.weights.items()},
        "with live families, on what chose the weights": added,
        "families": {}, "new users": {},
    }  # fmt: skip
    tasks: tuple[Task, ...] = ("next", "new") if shop.baskets else ("new",)
    for task in tasks:
        progress(f"families, {task}", 0, 1)
        quick = {name: one for name, one in lives.items() if name != "group"}
        found, users = judged({**trained, **quick}, some, task, blend)
        out["families"][task] = said(found, users)
        progress(f"group, {task}", 0, 1)
        found, users = judged({**trained, "group": lives["group"]}, some.some(SLOW), task, blend)
        grouped = said(found, users)
        systems = out["families"][task]["systems"]
        systems["group"] = grouped["systems"]["group"] | {"questions": grouped["questions"]}
    for case, every in forgotten(some, shop).items():
        progress(f"new users: {case}", 0, 1)
        of = every.some(CASES)
        if case == "declared only":
            found, users = judged({n: lives[n] for n in ("group", "popular", "trending", "new")},
                                  of, tasks[0])  # fmt: skip
            out["new users"][case] = said(found, users, "group")
            continue
        few = {n: lives[n] for n in ("popular", "portrait", "neighbours")}
        found, users = judged({**trained, **few}, of, tasks[0], blend)
        out["new users"][case] = said(found, users)
    progress("new items", 0, 1)
    some_trained = {n: s for n, s in trained.items() if n in ("content", "sequence", "discovery")}
    out["new items"] = new_items(shop, {**some_trained, "portrait": lives["portrait"]}, some)
    app.close()
    out["seconds"] = round(time.perf_counter() - started, 1)
    return out


def lines(found: Mapping[str, Any]) -> str:
    """The families and cases as tables in Markdown."""

    def cell(one: Mapping[str, Any]) -> str:
        mean, low, high = (f"{one[part]:.4f}".lstrip("0") for part in ("mean", "low", "high"))
        return f"{mean} [{low}, {high}]"

    out = []
    blocks = {**{f"families, {t}": b for t, b in found["families"].items()},
              **found["new users"], "new items": found["new items"]}  # fmt: skip
    for title, block in blocks.items():
        out.append(f"\n{title}: {block['questions']} questions of {block.get('users', 0)} users")
        out.append("| | HR@10 | NDCG@10 | ahead of it in HR | in NDCG |\n|---|---|---|---|---|")
        for name, one in block.get("systems", {}).items():
            ahead = [f"{v['mean']:+.4f} [{v['low']:+.4f}, {v['high']:+.4f}]"
                     for v in one.get("behind", {}).values()]  # fmt: skip
            ratio = one.get("times_random")
            more = (
                [f"{ratio['mean']:.1f} [{ratio['low']:.1f}, {ratio['high']:.1f}]"] if ratio else []
            )
            cells = [name, cell(one["hit_rate"]), cell(one["ndcg"]), *(ahead or more)]
            out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=["complete-journey", "ml-100k"])
    parser.add_argument("--validation", action="store_true", help="ask the time before the test")
    parser.add_argument("--without-sequence", action="store_true", help="no sequence model")
    given = parser.parse_args()
    report = measured(given.data, validation=given.validation, sequence=not given.without_sequence)
    print(lines(report), file=sys.stderr)
    json.dump(report, sys.stdout, indent=2)
    print()
