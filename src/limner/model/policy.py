"""A policy on the sequence model's state: what to show, learned from what showing it earned.

Top-K off-policy corrected REINFORCE (Chen et al. 2019). A model of what people do next imitates
what the log shows, and the log shows what some policy showed. Here an action a that earned R in
state s moves π by the gradient of

    min(π(a|s) / β(a|s), cap) · K (1 − π(a|s))^(K−1) · R · log π(a|s)

(the first three constant in the gradient): the first factor takes the behaviour policy β out, the
second is there because K items are shown, and those that are in the list anyway need no more.

The state and the items' vectors are the sequence model's, as they are (frozen): the head turns the
state, and has a bias of its own for each item. It starts as the plain model. So does the behaviour
policy, which is estimated by a head of its own from all that was shown, where its propensities
were not logged. A table of vectors of its own learned rare rewards by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limner.errors import ModelError
from limner.events.batch import F64, I32, I64
from limner.model.artifacts import read_json, write_json
from limner.model.loop import LoopConfig, Work, train
from limner.model.network import Params, torch_
from limner.model.protocol import F32, History, Interactions, ItemFeatures, Progress
from limner.model.sequence import SequenceModel

if TYPE_CHECKING:
    from torch import Tensor


QUICKER = 30.0
"""Times the bias learns as fast as the turn: what an item is worth, rows of all states tell."""


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """`k`: the length of lists; `cap`: of weights π/β. `passes` over the log, `rate`, `batch`
    (decisions a step) and `decay` (towards the plain model) are of both heads; `seed` of the order.
    """

    k: int = 10
    cap: float = 10.0
    passes: int = 20
    rate: float = 0.002
    batch: int = 512
    decay: float = 0.01
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was shown, and what came of it.

    To whoever had `histories[owner[i]]`, `items[i]` was shown and earned `rewards[i]`;
    `propensities[i]`: with which probability one slot of the list was given to it (those of a list
    of n sum to at most 1 over all items), NaN where it was not logged.
    """

    histories: Sequence[History]
    owner: I64
    items: I32
    rewards: F64
    propensities: F64

    def __len__(self) -> int:
        return len(self.items)


class Policy:
    """log(N · π(item | history)): 0 is chance. A head on a sequence model, which it keeps.

    Raises MissingExtra where PyTorch is not installed.
    """

    def __init__(
        self, trunk: SequenceModel | None = None, config: PolicyConfig | None = None
    ) -> None:
        torch_()
        self.trunk = trunk or SequenceModel()
        self.config = config or PolicyConfig()
        self.params: Params = {}
        self.behaviour: Params = {}

    @property
    def name(self) -> str:
        """`policy`."""
        return "policy"

    def learn(self, decisions: Decisions, *, progress: Progress) -> None:
        """Learn from a log, starting from the plain model.

        Raises ModelError if nothing in it earned anything.
        """
        torch = torch_()
        earned = np.flatnonzero(decisions.rewards != 0)
        if not len(earned):
            raise ModelError(
                "nothing that was shown earned anything, so there is nothing to learn",
                mend="log lists (log = true) and send their recommendation_id with what follows",
            )
        states = torch.from_numpy(self._states(decisions.histories)[decisions.owner])
        items = torch.from_numpy(decisions.items.astype(np.int64))
        rewards = torch.from_numpy(decisions.rewards.astype(np.float32))
        given = torch.log(torch.from_numpy(decisions.propensities.astype(np.float32)))
        plain = self._plain()
        unknown = np.flatnonzero(np.isnan(decisions.propensities))
        self.behaviour = _new(self.trunk)
        if len(unknown):

            def imitate(rows: I64, rng: np.random.Generator) -> Tensor:
                at = torch.from_numpy(rows)
                found = log_policy(self.behaviour, states[at], *plain)
                missed: Tensor = torch.nn.functional.nll_loss(found, items[at])
                return missed

            self._train(self.behaviour, unknown, imitate, "estimating what was shown", progress)
            with torch.no_grad():
                for rows in np.array_split(unknown, len(unknown) // 4096 + 1):
                    at = torch.from_numpy(rows)
                    found = log_policy(self.behaviour, states[at], *plain)
                    given[at] = found.gather(1, items[at, None])[:, 0]
        self.params = _new(self.trunk)

        def reinforce(rows: I64, rng: np.random.Generator) -> Tensor:
            at = torch.from_numpy(rows)
            return policy_loss(
                log_policy(self.params, states[at], *plain), items[at], rewards[at], given[at],
                k=self.config.k, cap=self.config.cap,
            )  # fmt: skip

        self._train(self.params, earned, reinforce, "training the policy", progress)

    def fit(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Interactions do not say what was shown: it stays as `learn` left it."""

    def update(self, data: Interactions, features: ItemFeatures, *, progress: Progress) -> None:
        """Interactions do not say what was shown: it stays as `learn` left it."""

    def embed(self, histories: Sequence[History]) -> F32:
        """It has no vector of its own, (n, 0)."""
        return np.zeros((len(histories), 0), dtype=np.float32)

    def score(self, histories: Sequence[History], items: I64 | None = None) -> F32:
        """Scores (n, N) or (n, len(items))."""
        torch = torch_()
        with torch.no_grad():
            states = torch.from_numpy(self._states(histories))
            out: F32 = log_policy(self.params, states, *self._plain()).numpy()
        out = out + np.float32(np.log(max(out.shape[1], 1)))
        return out if items is None else out[:, items]

    def keep(self, most: int) -> None:
        """As the sequence model it stands on."""
        self.trunk.keep(most)

    def let_go(self) -> None:
        """As the sequence model it stands on."""
        self.trunk.let_go()

    def save(self, folder: Path) -> None:
        """Write `policy.safetensors`, `policy.json` and the sequence model in `trunk`."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.trunk.save(folder / "trunk")
        tensors = {f"policy.{n}": t.detach().contiguous() for n, t in self.params.items()}
        tensors |= {f"behaviour.{n}": t.detach().contiguous() for n, t in self.behaviour.items()}
        save_file(tensors, folder / "policy.safetensors")
        write_json(folder / "policy.json", asdict(self.config))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote. Raises ModelError if it does not fit."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.trunk.load(folder / "trunk")
        try:
            self.config = PolicyConfig(**read_json(folder / "policy.json"))
            tensors = load_file(folder / "policy.safetensors")
            names = list(_new(self.trunk))
            self.params = {name: tensors[f"policy.{name}"] for name in names}
            self.behaviour = {name: tensors[f"behaviour.{name}"] for name in names}
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ModelError(
                f"cannot be read: {error}", where=str(folder), mend="train again: limner train"
            ) from error

    def _states(self, histories: Sequence[History]) -> F32:
        """The states it stands on, those of the model's first member, (n, D)."""
        return self.trunk.embed(histories)[:, : self.trunk.vectors.shape[1]]

    def _plain(self) -> tuple[Tensor, Tensor]:
        torch = torch_()
        return torch.from_numpy(self.trunk.vectors), torch.from_numpy(self.trunk.bias)

    def _train(
        self,
        params: Params,
        rows: I64,
        loss: Callable[[I64, np.random.Generator], Tensor],
        what: str,
        progress: Progress,
    ) -> None:
        config = self.config

        def batches(number: int) -> list[I64]:
            order = np.random.default_rng([config.seed, number]).permutation(rows)
            return np.array_split(order, -(-len(rows) // config.batch))

        loop = LoopConfig(
            config.passes, config.rate, config.decay, config.passes,
            threads=self.trunk.config.threads, seed=config.seed,
        )  # fmt: skip
        work = Work(batches, loss)
        found, _ = train(params, work, loop, what=what, progress=progress)
        params.update({name: tensor.detach() for name, tensor in found.items()})


def _new(trunk: SequenceModel) -> Params:
    """A head that changes nothing: states turn by I + `turn` (D, D), the bias (N,) grows by 0."""
    torch = torch_()
    n, d = trunk.vectors.shape
    return {"turn": torch.zeros(d, d), "bias": torch.zeros(n)}


def log_policy(params: Params, states: Tensor, vectors: Tensor, bias: Tensor) -> Tensor:
    """The log of π over all items, (n, N), in states (n, D)."""
    turned = states + states @ params["turn"]
    logits = turned @ vectors.T + bias + QUICKER * params["bias"]
    out: Tensor = logits.log_softmax(dim=1)
    return out


def policy_loss(
    log_pi: Tensor, items: Tensor, rewards: Tensor, log_behaviour: Tensor, *, k: int, cap: float
) -> Tensor:
    """−Σ min(π/β, cap) · K(1 − π)^(K−1) · R · log π(item) / n, the factors before log constant."""
    torch = torch_()
    own = log_pi.gather(1, items[:, None])[:, 0]
    with torch.no_grad():
        weight = (own - log_behaviour).exp().clamp(max=cap)
        several = k * (1 - own.exp()).clamp(min=0.0) ** (k - 1)
        factor = weight * several * rewards
    loss: Tensor = -(factor * own).mean()
    return loss
