from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from tests.unit.model.small import shop, silent

from limner.errors import ConfigError, ModelError
from limner.events.batch import DAY
from limner.model.network import (
    Candidates,
    Kind,
    SequenceConfig,
    ask,
    encode,
    log_partition,
    loss_of,
    new_params,
    newest,
)
from limner.model.protocol import History, Interactions, ItemFeatures
from limner.model.sequence import SequenceModel
from limner.model.sequences import Moments, batch_of, beyond, chunks, hiding

torch = pytest.importorskip("torch")

DATA, FEATURES = shop()
NOW = 101 * DAY
SMALL = SequenceConfig(depth=1, passes=2)


def cycle(users: int = 80, length: int = 20, n: int = 30) -> tuple[Interactions, ItemFeatures]:
    """Whoever has item i takes i + 1 next: order is all there is to learn."""
    start = np.arange(users) % n
    items = (start[:, None] + np.arange(length)) % n
    times = np.tile(np.arange(length) * DAY, users)
    total = users * length
    data = Interactions(
        np.arange(users + 1) * length,
        items.ravel().astype(np.int32),
        times,
        np.ones(total),
        np.full(total, -1),
        np.arange(total),
        n,
    )
    return data, ItemFeatures({}, {}, np.ones(n, dtype=bool))


def test_sampled_softmax_learns_it_too() -> None:
    data, features = cycle()
    config = SequenceConfig(
        passes=30, weight_decay=0.0, repeat_weight=1.0, full_softmax_below=0, negatives=10
    )
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    best = model.score(histories).argmax(axis=1)
    assert (best == [(h.items[-1] + 1) % 30 for h in histories]).mean() > 0.9


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_newest_states_alone_are_those_among_all(kind: Kind) -> None:
    config = SequenceConfig(kind=kind, depth=2)
    torch.manual_seed(1)
    params = new_params(config, 10, {})
    params = {name: value + 0.05 * torch.randn(value.shape) for name, value in params.items()}
    valid = torch.arange(7)[None] < torch.tensor([[7], [1], [4]])
    minutes = torch.rand(3, 7, dtype=torch.float64).cumsum(1) * 1000
    tokens = torch.randn(3, 7, config.width)
    every = encode(params, config, tokens, minutes, valid)
    found, _ = newest(params, config, tokens, minutes, valid)
    places = valid.sum(dim=1) - 1
    torch.testing.assert_close(found, every[torch.arange(3), places], rtol=1e-4, atol=1e-5)


def test_scores_are_log_odds_against_chance() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA, FEATURES, progress=silent)
    scores = model.score([DATA.history(user, NOW) for user in range(5)])
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 80.0, rtol=1e-4)


def test_no_moment_sees_a_later_one() -> None:
    config = SequenceConfig()
    torch.manual_seed(0)
    params = new_params(config, 5, {})
    for tensor in params.values():
        tensor += 0.1 * torch.randn(tensor.shape)
    tokens = torch.randn(1, 6, config.width)
    minutes = torch.arange(6, dtype=torch.float64)[None] * 60
    valid = torch.ones(1, 6, dtype=torch.bool)
    one = encode(params, config, tokens, minutes, valid)
    tokens[:, 4:] = 9.0
    two = encode(params, config, tokens, minutes, valid)
    torch.testing.assert_close(one[:, :4], two[:, :4])
    assert not torch.allclose(one[:, 4:], two[:, 4:])


def test_chunks_target_every_moment_but_the_first_once() -> None:
    moments = Moments.of(DATA, 1.0)
    for length in (2, 5, 100):
        targets = np.concatenate(
            [np.arange(first + 1, first + count) for first, count in chunks(moments, length)]
        )
        firsts = np.flatnonzero(np.diff(moments.owner, prepend=-1))
        expected = np.setdiff1d(np.arange(len(moments.owner)), firsts)
        assert sorted(targets.tolist()) == expected.tolist()


def test_events_of_one_second_are_in_order_unless_they_are_of_one_basket() -> None:
    events = np.arange(4)
    alone = Interactions(
        np.array([0, 4]), events.astype(np.int32), np.zeros(4, np.int64), np.ones(4),
        np.full(4, -1), events, 4,
    )  # fmt: skip
    assert Moments.of(alone, 1.0).first.tolist() == [0, 1, 2, 3, 4]
    basket = replace(alone, groups=np.array([7, 7, 7, -1]))
    assert Moments.of(basket, 1.0).first.tolist() == [0, 3, 4]


def test_a_history_of_one_second_is_read_as_it_was_learned() -> None:
    model = SequenceModel(SequenceConfig(passes=1, threads=1))
    model.fit(DATA, FEATURES, progress=silent)
    items = np.arange(4, dtype=np.int32)
    tied = History(items, np.full(4, DAY), np.ones(4), np.full(4, -1), np.arange(4), now=2 * DAY)
    apart = replace(tied, times=DAY + np.arange(4))  # a microsecond each
    basket = replace(tied, groups=np.zeros(4, np.int64))
    scores = model.score([tied, apart, basket])
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert np.abs(scores[0] - scores[2]).max() > 1e-2


def test_a_batch_pairs_each_moment_with_the_items_of_the_next() -> None:
    moments = Moments.of(DATA, 1.0)
    batch = batch_of(moments, chunks(moments, 100)[:2])
    length = batch.minutes.shape[1]
    for token in (0, 3, length + 2):
        moment = chunks(moments, 100)[token // length, 0] + token % length
        rows = slice(moments.first[moment + 1], moments.first[moment + 2])
        assert sorted(batch.pair_item[batch.pair_token == token]) == sorted(moments.items[rows])


def test_update_takes_in_new_items_and_values() -> None:
    """With no pass of training, what was known is as it was, however values are numbered now."""
    model = SequenceModel(replace(SMALL, update_passes=0))
    model.fit(DATA.before(60 * DAY), FEATURES, progress=silent)
    known = model.vectors.copy()
    grown = replace(DATA, n_items=82)
    features = ItemFeatures(
        {"category": np.append(FEATURES.codes["category"] + 1, [0, 3]).astype(np.int32)},
        {"category": ["olives", *FEATURES.values["category"]]},  # renumbered, and one is new
        np.ones(82, dtype=bool),
    )
    model.update(grown, features, progress=silent)
    np.testing.assert_array_equal(model.vectors[:80], known)
    assert (model.vectors[80] == 0).all()
    fruit = model.attributes["category"].index("fruit")
    np.testing.assert_array_equal(
        model.vectors[81], model.params["attribute.category"][fruit].numpy()
    )
    assert model.attributes["category"][-1] == "olives"


def test_update_learns_from_what_is_newer() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA.before(60 * DAY), FEATURES, progress=silent)
    assert model.trained_to < 60 * DAY
    before = model.vectors.copy()
    model.update(DATA, FEATURES, progress=silent)
    assert model.trained_to == int(DATA.times.max())
    assert not np.array_equal(model.vectors, before)
    assert np.isfinite(model.score([DATA.history(0, NOW)])).all()


def test_a_loaded_model_updates_as_the_saved_one_does(tmp_path: Path) -> None:
    """Two attributes, named out of alphabetical order, of different sizes."""
    codes = {"type": FEATURES.codes["category"], "brand": (FEATURES.codes["category"] % 2)}
    values = {"type": FEATURES.values["category"], "brand": ["own", "other"]}
    features = ItemFeatures(codes, values, FEATURES.available)
    model = SequenceModel(SMALL)
    model.fit(DATA.before(60 * DAY), features, progress=silent)
    model.save(tmp_path)
    loaded = SequenceModel()
    loaded.load(tmp_path)
    for one in (model, loaded):
        one.update(DATA, features, progress=silent)
    np.testing.assert_array_equal(loaded.vectors, model.vectors)


@pytest.mark.parametrize("kind", ["transformer", "gru", "lstm", "cnn", "mlp"])
def test_every_kind_learns_order_and_sees_no_later_moment(kind: Kind, tmp_path: Path) -> None:
    data, features = cycle()
    config = SequenceConfig(kind=kind, passes=30, weight_decay=0.0, repeat_weight=1.0)
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    best = model.score(histories).argmax(axis=1)
    least = 0.3 if kind == "mlp" else 0.9  # pooling forgets the order within
    assert (best == [(h.items[-1] + 1) % 30 for h in histories]).mean() > least
    tokens, valid = torch.randn(1, 6, config.width), torch.ones(1, 6, dtype=torch.bool)
    minutes = torch.arange(6, dtype=torch.float64)[None] * 60
    one = encode(model.params, config, tokens, minutes, valid)
    tokens[:, 4:] = 9.0
    two = encode(model.params, config, tokens, minutes, valid)
    torch.testing.assert_close(one[:, :4], two[:, :4])
    model.save(tmp_path)
    loaded = SequenceModel()
    loaded.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(histories), model.score(histories))


def test_padding_and_company_change_no_state() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA, FEATURES, progress=silent)
    histories = [DATA.history(user, NOW, last=3 + 5 * user) for user in range(8)]
    alone = np.concatenate([model.embed([history]) for history in histories])
    np.testing.assert_allclose(model.embed(histories), alone, rtol=1e-4, atol=1e-5)


def test_a_stopped_training_goes_on_to_the_same_parameters(tmp_path: Path) -> None:
    config = replace(SMALL, passes=4, patience=4)
    whole = SequenceModel(config)
    whole.fit(DATA, FEATURES, progress=silent)

    class Stopped(Exception):
        pass

    def stop(_: str, done: int, of: int) -> None:
        if done > of // 2:
            raise Stopped

    begun = SequenceModel(config, checkpoints=tmp_path / "training")
    with pytest.raises(Stopped):
        begun.fit(DATA, FEATURES, progress=stop)
    assert (tmp_path / "training" / "state.json").is_file()
    again = SequenceModel(config, checkpoints=tmp_path / "training")
    reports: list[int] = []
    again.fit(DATA, FEATURES, progress=lambda _, done, of: reports.append(100 * done // of))
    assert reports[0] > 45  # it went on, and did not begin anew
    for name, tensor in whole.params.items():
        torch.testing.assert_close(again.params[name], tensor, rtol=0, atol=0)
    assert again.curve.value == whole.curve.value
    assert not (tmp_path / "training").exists()


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    config = replace(SMALL, passes=2)
    model = SequenceModel(config, checkpoints=tmp_path)
    fingerprint = model._fingerprint(DATA, None)
    (tmp_path / "state.json").write_text(f'{{"fingerprint": "{fingerprint}", "curve": {{}}}}')
    (tmp_path / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="checkpoint") as found:
        model.fit(DATA, FEATURES, progress=silent)
    assert "remove" in found.value.mend


def test_a_wider_dial_is_a_larger_model() -> None:
    def count(depth: int) -> int:
        shapes = new_params(SequenceConfig(depth=depth), 100, {})
        return sum(tensor.numel() for tensor in shapes.values())

    assert count(1) < 20_000 < count(2) < count(4)
    width = SequenceConfig(depth=21).width
    assert 10 * width**2 * 21 > 90_000_000  # what its blocks alone hold
    assert SequenceConfig(depth=21).rate < SequenceConfig(depth=2).rate


def test_next_kind_and_value_are_told() -> None:
    """Views (.2) and purchases (1) take turns; what is bought costs 8."""
    n = 20
    times = np.tile(np.arange(n) * DAY, 60)
    weights = np.tile([0.2, 1.0], n // 2 * 60)
    items = np.random.default_rng(0).integers(0, 10, n * 60).astype(np.int32)
    rows = n * 60
    data = Interactions(
        np.arange(61) * n, items, times, weights, np.full(rows, -1), np.arange(rows), 10,
        np.where(weights == 1.0, 8.0, np.nan),
    )  # fmt: skip
    model = SequenceModel(SequenceConfig(depth=1, passes=10, tokens=128, repeat_weight=1.0))
    model.fit(data, ItemFeatures({}, {}, np.ones(10, dtype=bool)), progress=silent)
    viewed, bought = model.next([data.history(0, at * DAY) for at in (15, 16)])
    assert viewed.kinds[1.0] > 0.8 and bought.kinds[0.2] > 0.8
    assert viewed.value > bought.value


def test_an_untouched_item_is_found_by_its_content() -> None:
    """Items of even and odd numbers go together; the last two were never taken."""
    rng = np.random.default_rng(0)
    own = np.arange(80) % 2
    items = (own[:, None] + 2 * rng.integers(0, 14, (80, 15))).astype(np.int32)
    rows = items.size
    data = Interactions(
        np.arange(81) * 15, items.ravel(), np.tile(np.arange(15) * DAY, 80), np.ones(rows),
        np.full(rows, -1), np.arange(rows), 30,
    )  # fmt: skip
    content = np.stack([np.arange(30) % 2, 1 - np.arange(30) % 2], axis=1).astype(np.float32)
    features = ItemFeatures({}, {}, np.ones(30, dtype=bool), {"text": content})
    model = SequenceModel(SequenceConfig(passes=20, repeat_weight=1.0, weight_decay=0.0))
    model.fit(data, features, progress=silent)
    even, odd = model.score([data.history(user, 20 * DAY) for user in (0, 1)])
    assert even[28] > even[29] + 1 and odd[29] > odd[28] + 1


def test_bfloat16_and_accumulated_steps_learn_too() -> None:
    data, features = cycle()
    config = SequenceConfig(
        passes=30, weight_decay=0.0, repeat_weight=1.0, bfloat16=True, tokens=512, accumulate=2
    )
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    best = model.score(histories).argmax(axis=1)
    assert (best == [(h.items[-1] + 1) % 30 for h in histories]).mean() > 0.9


def test_an_update_moves_what_is_new_and_holds_on_to_what_was_known() -> None:
    """From day 60 on items 0 to 9 are followed by others than before; 10 to 19 come no more."""
    rng = np.random.default_rng(0)

    def walk(steps: dict[int, int], first: int) -> list[int]:
        out = [first]
        while len(out) < 20:
            out.append(steps[out[-1]])
        return out

    before = {n: n // 10 * 10 + (n + 1) % 10 for n in range(20)}
    after = {n: (n + 3) % 10 for n in range(10)}
    rows = [walk(before, int(rng.integers(20))) for _ in range(60)]
    later = [walk(after, int(rng.integers(10))) for _ in range(30)]
    items = np.array(rows + later, dtype=np.int32)
    start = np.repeat([0, 60], [60, 30])
    times = ((start[:, None] + np.arange(20)) * DAY).ravel()
    n = items.size
    data = Interactions(
        np.arange(91) * 20, items.ravel(), times, np.ones(n), np.full(n, -1), np.arange(n), 20
    )
    features = ItemFeatures({}, {}, np.ones(20, dtype=bool))
    config = SequenceConfig(
        passes=30, weight_decay=0.0, repeat_weight=1.0, update_passes=20, tokens=256,
        popularity=False, asked_later=False,
    )  # fmt: skip
    model = SequenceModel(config)
    model.fit(data.before(60 * DAY), features, progress=silent)
    old = [data.history(user, 10 * DAY) for user in range(60) if rows[user][0] >= 10]
    new = [data.history(user, 70 * DAY) for user in range(60, 90)]
    known, vectors = model.score(old).argmax(axis=1), model.vectors.copy()
    loss = _loss(model, new, after)
    model.update(data, features, progress=silent)
    assert _loss(model, new, after) < 0.7 * loss
    assert (model.score(old).argmax(axis=1) == known).mean() > 0.9
    np.testing.assert_array_equal(model.vectors[10:], vectors[10:])


def _loss(model: SequenceModel, histories: list[History], steps: dict[int, int]) -> float:
    scores = model.score(histories)
    next_items = [steps[int(history.items[-1])] for history in histories]
    chosen = scores[np.arange(len(histories)), next_items]
    return float((math.log(scores.shape[1]) - chosen).mean())


def test_a_training_is_told_on_one_page(tmp_path: Path) -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA, FEATURES, progress=silent)
    model.save(tmp_path)
    text = (tmp_path / "training.html").read_text(encoding="utf-8")
    assert text.count("<polyline") == 3 and "src=" not in text and "http" not in text
    points = re.findall(r'points="([^"]*)"', text)
    assert all(len(line.split()) == len(model.curve.loss) for line in points)
    assert f"pass {model.curve.best + 1}: " in text and f"{model.parameters:,} parameters" in text
    ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_log_partition_is_that_of_autograd_and_so_are_its_gradients(bfloat16: bool) -> None:
    torch.manual_seed(0)
    states, pool = torch.randn(7, 8), torch.randn(30, 8)
    bias, weights = torch.randn(30) * 40, torch.rand(7)
    found = []
    for own in (True, False):
        a, v = states.clone().requires_grad_(True), pool.clone().requires_grad_(True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            total = (
                log_partition(a, v, bias)
                if own
                else torch.addmm(bias, a, v.T).float().logsumexp(dim=1)
            )
        (total * weights).sum().backward()
        assert a.grad is not None and v.grad is not None
        found.append((total.detach(), a.grad, v.grad))
    close = {"rtol": 2e-2, "atol": 2e-2} if bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **close)


def test_gradient_times_input_is_how_the_score_moves_with_each_event() -> None:
    model = SequenceModel(SMALL)
    model.fit(DATA, FEATURES, progress=silent)
    history = DATA.history(3, NOW)
    found = model.attribute(history, np.array([7]))[0]
    assert len(found) == len(history)
    read = model._read([history])

    def score(events: Any) -> float:
        with torch.no_grad():
            state = model._after(read, events).double()[0]
        logits = torch.from_numpy(model.vectors).double() @ state + torch.from_numpy(model.bias)
        return float(logits[7] - logits.logsumexp(0))

    step = 1e-2
    kept = len(history) - len(read.events)
    assert not found[:kept].any()
    for row in range(len(read.events)):
        more, less = read.events.detach().clone(), read.events.detach().clone()
        more[row] *= 1 + step
        less[row] *= 1 - step
        slope = (score(more) - score(less)) / (2 * step)
        assert found[kept + row] == pytest.approx(slope, rel=0.05, abs=2e-3)
    assert not model.attribute(history.without(np.arange(len(history))), np.array([7])).size


def test_three_events_by_gradient_hold_what_deletion_finds() -> None:
    data, features = cycle()
    model = SequenceModel(SequenceConfig(passes=12, weight_decay=0.0, repeat_weight=1.0))
    model.fit(data, features, progress=silent)
    rng = np.random.default_rng(0)
    ours, chance, best = [], [], []
    for user in range(30):
        history = data.history(user, 12 * DAY)
        item = int(model.score([history])[0].argmax())
        ones = [history, *(history.without(np.array([row])) for row in range(len(history)))]
        scores = model.score(ones)[:, item]
        falls = scores[0] - scores[1:]
        best.append(falls.max())
        ours.append(falls[np.argsort(-model.attribute(history, np.array([item]))[0])[:3]].max())
        chance.append(falls[rng.permutation(len(history))[:3]].max())
    assert sum(ours) >= 0.9 * sum(best)
    assert sum(chance) < 0.6 * sum(best)


def test_beyond_the_next_moment_targets_count_less_and_stay_within_their_user() -> None:
    data, _ = cycle(users=3, length=5)
    moments = Moments.of(data, 1.0)
    plain = batch_of(moments, chunks(moments, 100))
    found = beyond(plain, 0.5)
    assert found.nearest == len(plain.pair_item) == 12
    np.testing.assert_array_equal(found.pair_token[:12], plain.pair_token)
    first = found.pair_token == 0  # the first moment of the first user, who goes 0, 1, 2, 3, 4
    np.testing.assert_array_equal(found.pair_item[first], [1, 2, 3])
    np.testing.assert_allclose(found.pair_weight[first], [1.0, 0.5, 0.25])
    last = found.pair_token == 3
    np.testing.assert_array_equal(found.pair_item[last], [4])
    assert len(found.pair_item) == 3 * (4 + 3 + 2)


def test_what_is_hidden_is_not_seen_but_stays_a_target() -> None:
    data, _ = cycle(users=40)
    moments = Moments.of(data, 1.0)
    plain = batch_of(moments, chunks(moments, 100))
    found = hiding(plain, 0.25, np.random.default_rng(0))
    assert (found.bag_weights == 0).mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_array_equal(found.pair_item, plain.pair_item)


def test_with_hidden_events_and_later_targets_order_is_still_learned() -> None:
    data, features = cycle()
    config = SequenceConfig(
        passes=12, weight_decay=0.0, repeat_weight=1.0, hide=0.1, beyond=0.3, dropout=0.1
    )
    model = SequenceModel(config)
    model.fit(data, features, progress=silent)
    histories = [data.history(user, 10 * DAY) for user in range(30)]
    order = (-model.score(histories)).argsort(axis=1)[:, :2]
    best = [(h.items[-1] + 1) % 30 for h in histories]
    assert (order[:, 0] == best).mean() > 0.9
    assert (order[:, 1] == [(item + 1) % 30 for item in best]).mean() > 0.5


def test_the_loss_is_the_same_where_the_partition_is_known_from_logits_already_built() -> None:
    data, features = cycle()
    model = SequenceModel(SMALL)
    model.fit(data, features, progress=silent)
    moments = Moments.of(data, 1.0)
    batch = batch_of(moments, chunks(moments, 100))
    known = Candidates.of(data.items, moments.targets, 30, full=True)
    rng = np.random.default_rng(0)
    table = model._table(features, 30)
    asked = ask(model.params, SMALL, table, batch, known, rng, dropout=0.0)
    partition = asked.logits.logsumexp(dim=1)
    given = loss_of(model.params, SMALL, asked, batch, known, partition=partition)
    torch.testing.assert_close(given, loss_of(model.params, SMALL, asked, batch, known))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler's own look at tokens
def test_compiled_it_learns_the_same() -> None:
    data, features = shop(users=30)
    found = []
    for backend in ("", "eager"):
        config = SequenceConfig(depth=1, passes=2, dropout=0.0, tokens=512, compile=backend)
        model = SequenceModel(config)
        model.fit(data, features, progress=silent)
        found.append(model)
    plain, compiled = found
    np.testing.assert_allclose(compiled.curve.loss, plain.curve.loss, rtol=1e-5)
    np.testing.assert_allclose(compiled.curve.value, plain.curve.value, rtol=1e-5)
    np.testing.assert_allclose(compiled.vectors, plain.vectors, atol=1e-4)


def test_a_backend_that_there_is_none_of_is_refused() -> None:
    data, features = shop(users=8)
    with pytest.raises(ConfigError, match=r"'fastest' is no backend.*"):
        SequenceModel(SequenceConfig(depth=1, passes=1, compile="fastest")).fit(
            data, features, progress=silent
        )
