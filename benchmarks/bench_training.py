"""A training step of the deep FusionRecommender: both passes over all items, and AdamW's step."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from comparison import bounds
from comparison.cases import (
    BACKWARD,
    COMPILE,
    EAGER,
    OURS,
    Call,
    Case,
    Shape,
    Suite,
    compiled,
    few_users,
)
from comparison.memory import require_matrices
from eager.fusion_recommender import Recommender
from torch import Tensor, nn

from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.model import FusionNetwork

ONCE = "eager, users once"
WIDTHS = {"text": 384, "image": 128}
HEADS = 4
HISTORY, LEAST_TARGETS, MOST_TARGETS = 50, 4, 8  # the mean, and the bounds
PRESENT = 0.8  # of the pictures


class Lists(NamedTuple):
    """Ragged lists of items: histories, what is asked for, and both together."""

    history: Tensor
    history_offsets: Tensor
    targets: Tensor
    target_offsets: Tensor

    @classmethod
    def random(cls, users: int, items: int) -> Lists:
        """Distinct items for each user."""
        generator = torch.Generator().manual_seed(1)
        most = min(2 * HISTORY, items - MOST_TARGETS)
        lengths = torch.randint(1, most, (users,), generator=generator)
        asked = torch.randint(LEAST_TARGETS, MOST_TARGETS + 1, (users,), generator=generator)
        histories, targets = [], []
        for length, count in zip(lengths.tolist(), asked.tolist(), strict=True):
            chosen = torch.randperm(items, generator=generator)[: length + count]
            histories.append(chosen[:length])
            targets.append(chosen[length:])
        return cls(torch.cat(histories), _offsets(lengths), torch.cat(targets), _offsets(asked))

    def positives(self) -> list[Tensor]:
        """The items of each user, ascending."""
        parts = [
            values.tensor_split(offsets[1:-1])
            for values, offsets in (
                (self.history, self.history_offsets),
                (self.targets, self.target_offsets),
            )
        ]
        return [torch.cat(both).sort().values for both in zip(*parts, strict=True)]


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def network(shape: Shape, kind: type[FusionNetwork] = FusionNetwork) -> FusionNetwork:
    """The model with random features, and nothing dropped by chance: all compute the same."""
    users, items, dim = shape
    config = FusionRecommenderConfig(
        dim=dim,
        fusion="deep",
        num_heads=HEADS,
        dropout=0.0,
        modality_dropout=0.0,
        id_dropout=0.0,
        num_items=items,
        num_users=users,
        item_features=WIDTHS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = kind(config)
        tower = made.item_tower
        for name in WIDTHS:
            tower.features(name).normal_()
        tower.presence("text").fill_(True)
        tower.presence("image").copy_(torch.rand(items) < PRESENT)
        tower.has_history.fill_(True)
        tower.id_known.fill_(True)
        tower.history_scale.uniform_(0.2, 1.0)
    return made


def _ours(model: FusionNetwork, lists: Lists) -> dict[str, Any]:
    positives = lists.positives()
    return {
        "users": torch.arange(len(positives)),
        "history_items": lists.history,
        "history_offsets": lists.history_offsets,
        "history_weights": torch.ones(len(lists.history)),
        "targets": lists.targets,
        "target_offsets": lists.target_offsets,
        "positives": torch.cat(positives),
        "positive_offsets": _offsets(torch.tensor([len(part) for part in positives])),
    }


def _eager(model: FusionNetwork, lists: Lists, *, once: bool) -> dict[str, Any]:
    positives = lists.positives()
    users = torch.arange(len(positives))
    target_user = users.repeat_interleave(lists.target_offsets.diff())
    if once:
        excluded = list(enumerate(positives))
    else:
        excluded = [
            (row, positives[user][positives[user] != target])
            for row, (user, target) in enumerate(
                zip(target_user.tolist(), lists.targets, strict=True)
            )
        ]
    return {
        "history_items": lists.history,
        "history_user": users.repeat_interleave(lists.history_offsets.diff()),
        "history_scale": model.item_tower.history_scale,
        "targets": lists.targets,
        "target_user": target_user,
        "excluded": (
            torch.cat([torch.full_like(items, row) for row, items in excluded]),
            torch.cat([items for _, items in excluded]),
        ),
        "users": len(users),
        "once": once,
    }


def eager_of(model: FusionNetwork) -> Recommender:
    """The same model in eager PyTorch, with parameters of its own that begin alike."""
    tower = model.item_tower
    features = {name: tower.features(name) for name in WIDTHS}
    present = {name: tower.presence(name) for name in WIDTHS}
    made = Recommender(features, present, model.config.dim, HEADS)
    made.load_state_dict(dict(model.named_parameters()))
    return made


def setup(case: Case) -> Call:
    """The call of one contender; it returns the loss and the gradients, by name."""
    users, items, _ = case.shape
    if case.contender != OURS:
        require_matrices(case, users * (1 if case.contender == ONCE else MOST_TARGETS) * items)
    ours, lists = network(case.shape), Lists.random(users, items)
    model: nn.Module = ours
    if case.contender == OURS:
        batch = _ours(ours, lists)
    else:
        model = eager_of(ours)
        batch = _eager(ours, lists, once=case.contender == ONCE)
    model.train()
    parameters = [value for _, value in sorted(model.named_parameters())]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    forward: Any = compiled(model) if case.contender == COMPILE else model

    def step() -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        result = forward(**batch)
        loss = result["loss"] if case.contender == OURS else result
        loss.backward()
        optimizer.step()
        return (loss.detach(), *(value.grad for value in parameters))

    return step


SUITE = Suite(
    title=(
        "a training step, forward, backward and AdamW, of the deep FusionRecommender: B users "
        "with histories of 50 and 4 to 8 targets, softmax over P items of 3 tokens (text, image, "
        "id); eager: the same model in PyTorch, a row of logits a target; users once: a row a user"
    ),
    contenders=(OURS, EAGER, COMPILE, ONCE),
    setup=setup,
    work=lambda case: bounds.deep_training(*case.shape, HEADS, tuple(WIDTHS.values())),
    axes=("B", "P", "D"),
    shapes=((64, 10_000, 64), (256, 100_000, 64)),
    directions=(BACKWARD,),
    small=few_users,
)


def bench_training(contest: Any) -> None:
    contest()
