"""Histories to training examples: a part of each history is asked for, given the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fusionops.data.ids import Codes
from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.interface.histories import Histories

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One user of a batch.

    Attributes
    ----------
    user : int
    items, weights, events : numpy.ndarray
        What is given, oldest first.
    targets : numpy.ndarray
        The items asked for.
    positives : numpy.ndarray
        All items of the user, none of which is a negative.
    reviews : numpy.ndarray
        Rows of the user's reviews of items that are not asked for.
    draw : int
        From the same chance as the targets, for what is drawn of a batch as a whole.
    """

    user: int
    items: Codes
    weights: Floats
    events: Codes
    targets: Codes
    positives: Codes
    reviews: Codes
    draw: int


class HistoryExamples(Dataset[Example]):
    """The users with at least two items; each epoch asks for another part of their histories.

    What is drawn depends on the seed, the epoch and the user alone, so that a run that was killed
    goes on with the examples that it would have seen.

    Parameters
    ----------
    histories : Histories
        Of all users, over rows of the items that are trained on.
    config : FusionRecommenderConfig
    reviews : tuple of numpy.ndarray, optional
        ``offsets [U + 1]``, and for each review by user its item ``[R]``, -1 for none that is
        trained on.
    seed : int
    """

    def __init__(
        self,
        histories: Histories,
        config: FusionRecommenderConfig,
        *,
        reviews: tuple[Codes, Codes] | None = None,
        seed: int = 0,
    ) -> None:
        self._histories = histories
        kinds = histories.events
        self._events = np.zeros_like(histories.items) if kinds is None else kinds
        self._config = config
        self._reviews = reviews
        self._seed, self._epoch = seed, 0
        lengths = [
            len(np.unique(histories.items[start:stop]))
            for start, stop in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
        ]
        self.users = np.flatnonzero(np.array(lengths) >= 2)

    def set_epoch(self, epoch: int) -> None:
        """Choose what is asked for; see :class:`Epochs`."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.users)

    def __getitem__(self, index: int) -> Example:
        user = int(self.users[index])
        rows = slice(self._histories.offsets[user], self._histories.offsets[user + 1])
        items = self._histories.items[rows]
        positives = np.unique(items)
        rng = np.random.default_rng((self._seed, self._epoch, user))
        count = round(self._config.target_fraction * len(positives))
        count = min(max(1, count), len(positives) - 1)
        asked = rng.choice(positives, count, replace=False)
        given = np.flatnonzero(~np.isin(items, asked))[-self._config.max_history :]
        return Example(
            user,
            items[given],
            self._histories.weights[rows][given],
            self._events[rows][given],
            asked[: self._config.max_targets],
            positives,
            self._allowed_reviews(user, asked),
            int(rng.integers(2**32)),
        )

    def _allowed_reviews(self, user: int, asked: Codes) -> Codes:
        """A review of an item gives away that the user has it."""
        if self._reviews is None:
            return np.empty(0, np.int64)
        offsets, items = self._reviews
        rows = np.arange(offsets[user], offsets[user + 1])
        return rows[~np.isin(items[rows], asked)]


class Epochs(TrainerCallback):
    """Tells examples the epoch.

    The loaders do that too, but not where batches are skipped (after a kill) or shared among
    processes (accelerate 1.15).
    """

    def __init__(self, examples: HistoryExamples) -> None:
        self._examples = examples

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the examples which epoch begins."""
        # Within an epoch where a run goes on; a sum of fractions may fall short of an integer.
        self._examples.set_epoch(math.floor((state.epoch or 0) + 1e-6))


def collate(examples: Sequence[Example]) -> dict[str, Any]:
    """A batch of examples as the keyword arguments of ``FusionRecommender.forward``."""
    targets = [example.targets for example in examples]
    positives = [example.positives for example in examples]
    return {
        "users": torch.tensor([example.user for example in examples]),
        "history_items": _joined([example.items for example in examples]),
        "history_offsets": _offsets([len(example.items) for example in examples]),
        "history_weights": torch.from_numpy(np.concatenate([e.weights for e in examples])),
        "history_events": _joined([example.events for example in examples]),
        "targets": _joined(targets),
        "target_offsets": _offsets([len(part) for part in targets]),
        "positives": _joined(positives),
        "positive_offsets": _offsets([len(part) for part in positives]),
        "reviews": _joined([example.reviews for example in examples]),
        "review_offsets": _offsets([len(example.reviews) for example in examples]),
    }


def _joined(parts: Sequence[Codes]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def _offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)
