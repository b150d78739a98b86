"""Training by the Trainer of transformers."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, TrainingArguments

from fusionops.data.ids import Codes
from fusionops.models.fusion_recommender.checkpoints import checkpoint_of
from fusionops.models.fusion_recommender.encoders import ItemEncoder
from fusionops.models.fusion_recommender.examples import Epochs, HistoryExamples, collate
from fusionops.models.fusion_recommender.inputs import Inputs, reviews_by_user
from fusionops.models.fusion_recommender.live import LiveBatches, Refresh
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.fusion_recommender.starting import calibrate
from fusionops.models.fusion_recommender.trainer import FusionTrainer
from fusionops.models.interface.histories import Histories

DEFAULTS: Mapping[str, Any] = {
    "num_train_epochs": 30,
    "per_device_train_batch_size": 256,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "warmup_steps": 20,
    "lr_scheduler_type": "cosine",
    "logging_strategy": "epoch",
    "save_strategy": "no",
    "report_to": [],
}
"""What a person who says nothing gets; each is an argument of ``TrainingArguments``."""

STARTED: Mapping[str, Any] = {**DEFAULTS, "num_train_epochs": 2, "learning_rate": 1e-4}
"""The same where training begins at the scores of another model, which are soon unlearned."""

_CALIBRATION_USERS = 512


def training_arguments(
    given: TrainingArguments | Mapping[str, Any] | None, *, started: bool = False
) -> TrainingArguments:
    """Arguments of the Trainer from a person's, with our defaults where they say nothing."""
    if isinstance(given, TrainingArguments):
        given.remove_unused_columns = False  # the columns of a batch are made by the collator
        return given
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(
            f"arguments: expected TrainingArguments or a mapping, got {type(given).__name__}"
        )
    known = [field.name for field in fields(TrainingArguments) if field.init]
    for name in given or {}:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1, cutoff=0.4)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"arguments: expected those of TrainingArguments, got {name!r}{hint}")
    defaults = STARTED if started else DEFAULTS
    chosen = {
        **defaults,
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        **(given or {}),
    }
    if "output_dir" not in chosen:
        chosen["output_dir"] = tempfile.mkdtemp(prefix="fusionops-")
    try:
        return TrainingArguments(**chosen)
    except (TypeError, ValueError) as error:
        raise type(error)(f"arguments: {error}") from None


def train(
    network: FusionNetwork,
    inputs: Inputs,
    histories: Histories,
    arguments: TrainingArguments,
    *,
    callbacks: Sequence[TrainerCallback] = (),
    resume: bool | str | Path = False,
    started: bool = False,
    encoders: Mapping[str, ItemEncoder] | None = None,
) -> list[dict[str, float]]:
    """Train a network that is filled with its inputs.

    Parameters
    ----------
    histories : Histories
        Each pair once.
    resume : bool or path
        Go on from the last checkpoint of ``arguments.output_dir``, or from one that is named.
    started : bool
        Whether the network begins at the scores of another model.
    encoders : mapping of str to ItemEncoder, optional
        Those of the network; what of them is trained is.

    Returns
    -------
    list of dict
        What the Trainer logged.
    """
    checkpoint = checkpoint_of(resume, arguments.output_dir, network.config)
    rows = network.trained_rows()
    examples = HistoryExamples(
        histories if rows is None else _over(rows.numpy(), histories, len(inputs.items)),
        network.config,
        reviews=_reviews(inputs, None if rows is None else rows.numpy()),
        seed=arguments.seed,
    )
    if len(examples) == 0:
        raise ValueError(
            "interactions: expected a user with at least two items, got none; "
            "without one there is nothing to learn from"
        )
    if started:
        some = range(min(len(examples), _CALIBRATION_USERS))
        calibrate(network, collate([examples[index] for index in some]))
    trained = {name: part for name, part in (encoders or {}).items() if part.trained}
    trainer = FusionTrainer(
        network,
        arguments,
        data_collator=LiveBatches(network, trained) if trained else collate,
        train_dataset=examples,
        # First, so that those of others meet the vectors of the epoch that has ended.
        callbacks=[
            Epochs(examples),
            *([Refresh(network, trained)] if trained else []),
            *callbacks,
        ],
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    return list(trainer.state.log_history)


def _over(rows: Codes, histories: Histories, n_items: int) -> Histories:
    """Histories over the items that are trained on, which are all that they hold."""
    place = np.full(n_items, -1, np.int64)
    place[rows] = np.arange(len(rows))
    return Histories(
        histories.offsets,
        place[histories.items],
        histories.weights,
        histories.times,
        histories.ordered,
        histories.events,
    )


def _reviews(inputs: Inputs, rows: Codes | None) -> tuple[Codes, Codes] | None:
    """Offsets by user, and the item of each review among those that are trained on."""
    if inputs.reviews is None:
        return None
    reviews = inputs.reviews[0]
    order, offsets = reviews_by_user(reviews)
    place = np.arange(len(inputs.items))
    if rows is not None:
        place[:] = -1
        place[rows] = np.arange(len(rows))
    return offsets, place[reviews.item[order]]
