"""Transfer: a sequence model for one field starts from what was learned in another.

How behaviour unfolds (the blocks, the biases of time and step, kinds of events, values, gaps) and
what attribute values and content mean carry over; the items themselves do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from limner.errors import ModelError, NotFound
from limner.events.batch import F64
from limner.model import registry
from limner.model.artifacts import verify
from limner.model.network import Params
from limner.model.protocol import Interactions, ItemFeatures
from limner.model.sequence import SequenceModel

PART = "sequence"


def start_from(
    fresh: Params,
    learned: Params,
    *,
    attributes: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]],
    kinds: tuple[F64, F64],
) -> Params:
    """Fresh parameters with all that carries over from learned ones in its place.

    `attributes` and `kinds`: (here, there), the values whose rows an attribute has, and the event
    weights that tell kinds apart. The item table stays fresh. A row of an attribute goes to the
    value of the same text, one of a kind to the kind of the same weight; the rest carries over
    where the shapes agree. Neither argument is changed.
    """
    out = {name: tensor.detach().clone() for name, tensor in fresh.items()}
    for name, tensor in learned.items():
        if name == "items" or name not in out:
            continue
        if name.startswith("attribute."):
            here, there = (list(values.get(name[10:], [])) for values in attributes)
            to, of = _pairs(here, there)
            if tensor.shape[1] == out[name].shape[1]:
                out[name][to] = tensor[of].detach()
        elif name in ("kind", "next_kind"):
            to, of = _pairs(kinds[0].tolist(), kinds[1].tolist())
            if name == "kind" and tensor.shape[1] == out[name].shape[1]:
                out[name][to] = tensor[of].detach()
            elif name == "next_kind" and tensor.shape[0] == out[name].shape[0]:
                out[name][:, to] = tensor[:, of].detach()
        elif tensor.shape == out[name].shape:
            out[name] = tensor.detach().clone()
    return out


def _pairs(here: Sequence[object], there: Sequence[object]) -> tuple[list[int], list[int]]:
    """(places here, places there) of what both have."""
    known = {value: place for place, value in enumerate(there)}
    both = [(place, known[value]) for place, value in enumerate(here) if value in known]
    return [place for place, _ in both], [place for _, place in both]


class Transferred(SequenceModel):
    """A sequence model of the same make as `source`, each fit of which starts from it."""

    def __init__(self, source: SequenceModel, *, seed: int = 0) -> None:
        super().__init__(replace(source.config, seed=seed))
        self.source = source

    def _fresh(self, data: Interactions, features: ItemFeatures) -> Params:
        return start_from(
            super()._fresh(data, features),
            self.source.params,
            attributes=(self.attributes, self.source.attributes),
            kinds=(self.kinds, self.source.kinds),
        )


def source_of(said: str, home: Path | None) -> SequenceModel:
    """The trained sequence model that `said` names: a version of the store at `home`, or a folder.

    A folder is that of a version, or one with versions (the one in use is meant), or the home
    of a store. Raises NotFound if there is none, ModelError if it has no sequence model or was
    altered.
    """
    folder = _folder_of(said, home)
    verify(folder)
    if not (folder / PART).is_dir():
        raise ModelError(
            "has no sequence model to start from",
            where=str(folder),
            mend="name a version that was trained with one (pip install 'limner[model]')",
        )
    model = SequenceModel()
    model.load(folder / PART)
    return model


def _folder_of(said: str, home: Path | None) -> Path:
    if home is not None and said.isdigit():
        return registry.version_of(home, said).folder
    path = Path(said).expanduser()
    for base in (path, path.parent):
        current = registry.current(base)
        if current is not None and (base == path or path.name == "models"):
            return registry.version_of(base, current).folder
    if not (path / "manifest.json").is_file():
        raise NotFound(
            "there is no trained model",
            where=said,
            mend="name a version (limner models) or the folder of one: shop.data/models/000001",
        )
    return path
