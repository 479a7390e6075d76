"""How long lists, their reasons, and whys take: for `limner bench`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from limner.app import Limner, learning
from limner.cli.measures import Bench, Line, _ms, _quantiles
from limner.model.blend import TASKS, Blend
from limner.sources import synthetic
from limner.sources.synthetic import user_name

EVENTS = 200
"""Events of each user."""
USERS = 300
ITEMS = 50_000
ASKED = 300
"""Users that are asked, one after another; a tenth of them for a why."""


def explain(bench: Bench) -> list[Line]:
    """Lists with and without reasons, and whys, where every user has `EVENTS` events.

    By a blend in which every family that this catalogue has counts, trained for one pass: how
    good it is makes no difference to how long it takes.
    """
    users = min(bench.shop.users, USERS)
    items = min(bench.shop.items, ITEMS)
    shop = replace(bench.shop, users=users, items=items, events=EVENTS * users, user_exponent=0.0)
    with Limner.open(config=bench._fresh("explain")) as app:
        app.import_file(synthetic.items(shop), kind="items")
        for part in synthetic.events(shop):
            app.record(part)
        _learn(app, bench)
        names = [user_name(number) for number in range(users)][:ASKED]
        plain, told, whys, absent = [], [], [], []
        for user in names[:20]:  # what is kept between lists is made by the first ones
            app.recommend(user, explain=True)
        for number, user in enumerate(names):
            bench.progress("lists", number, len(names))
            plain.append(_ms(app.recommend, user))
            told.append(_ms(lambda who: app.recommend(who, explain=True), user))
            if number % 10 == 0:
                listed = app.recommend(user).items
                whys.append(_ms(app.why, user, listed[-1].item_id))
                other = synthetic.item_name(number % shop.items)
                absent.append(_ms(app.why, user, other))
    return [
        *_quantiles("a list of 10", plain),
        *_quantiles("a list of 10 with reasons", told, p99=20.0),
        *_quantiles("why an item is in the list", whys, p99=1000.0),
        *_quantiles("why an item is not in it", absent, p99=1000.0),
    ]


def _learn(app: Limner, bench: Bench) -> None:
    from limner.model.network import SequenceConfig
    from limner.model.training import families, questions

    lesson = learning.lesson_of(app, progress=bench.progress)
    models = families(lesson.attributes, sequence=SequenceConfig(passes=1))
    for model in models.values():
        model.fit(lesson.data, lesson.attributes, progress=bench.progress)
    _, some = questions(lesson.data, int(np.median(lesson.data.times)))
    spread = {name: float(model.score(some[:32]).std()) for name, model in models.items()}
    weights = {name: 1.0 / max(size, 1e-6) for name, size in spread.items()}
    blend = Blend(models, dict.fromkeys(TASKS, weights))
    learning.publish(app, blend, lesson, made="trained", parents=[])
