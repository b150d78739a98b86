"""Encoders trained in the loop: a few items of every batch encoded anew, the others remembered.

The softmax is over the whole catalogue, and to encode the catalogue with gradient in every step
would cost as many passes of the encoder as there are items. So the item tower keeps a vector of
every item, and a training step encodes only ``config.live_items`` of the items that the batch asks
for or gives: their new vectors stand in place of the kept ones, and the gradient of the whole
softmax flows through them into the encoder. All other items take part with the vectors that they
had at the last refresh, which is after every epoch, the last one included. That is a memory bank
(Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination"), and an
approximation in two ways: kept vectors are up to one epoch old, and items that were not chosen give
the encoder no gradient in this step. What users touched is read from kept vectors alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from fusionops.data.ids import Codes
from fusionops.models.encoders.base import Encoder, Unreadable
from fusionops.models.encoders.encoding import encode
from fusionops.models.fusion_recommender.encoders import ItemEncoder
from fusionops.models.fusion_recommender.examples import Example, collate
from fusionops.models.fusion_recommender.model import FusionNetwork

_MOST_BYTES = 1 << 30


class PreparedContents:
    """What an encoder takes of each item, read once and kept as far as memory is given.

    Parameters
    ----------
    encoder : Encoder
    contents : sequence
        One an item.
    rows : numpy.ndarray
        ``int64``, the codes of the items that will be asked for.
    most_bytes : int
        What lies above is read anew each time; a gigabyte holds the tokens of millions of texts,
        or the pixels of 1,700 pictures.
    """

    def __init__(
        self,
        encoder: Encoder,
        contents: Sequence[Any],
        rows: Codes,
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._encoder, self._contents = encoder, contents
        self._kept: dict[int, dict[str, Any]] = {}
        for code in rows.tolist():
            if most_bytes <= 0:
                break
            prepared = self._prepare(code)
            if prepared is not None:
                self._kept[code] = prepared
                most_bytes -= sum(map(_bytes, prepared.values()))

    def batch(self, codes: Codes) -> tuple[Codes, dict[str, Tensor]]:
        """The inputs of the encoder for some items, and which of them (by place) can be read."""
        found = [self._kept.get(code) or self._prepare(code) for code in codes.tolist()]
        readable = [one for one in found if one is not None]
        places = np.flatnonzero([one is not None for one in found])
        return places, self._encoder.collate(readable) if readable else {}

    def _prepare(self, code: int) -> dict[str, Any] | None:
        try:
            return self._encoder.prepare(self._contents[code])
        except Unreadable:  # a file that has gone since the catalogue was encoded
            return None


class LiveBatches:
    """Collates examples, and adds what encoders need to encode some of their items.

    Which items those are depends on the seed, the epoch and the users of the batch alone: any of
    those that the batch asks for or gives is as likely as any other.

    Parameters
    ----------
    network : FusionNetwork
        With features in its buffers.
    encoders : mapping of str to ItemEncoder
        Those that are trained.
    """

    def __init__(self, network: FusionNetwork, encoders: Mapping[str, ItemEncoder]) -> None:
        self._count = network.config.live_items
        rows = network.trained_rows()
        everything = np.arange(network.config.num_items)
        self._rows: Codes = everything if rows is None else rows.cpu().numpy()
        self._parts = {}
        for name, part in encoders.items():
            present = network.item_tower.presence(name).cpu().numpy()[self._rows]
            prepared = PreparedContents(part.encoder, part.contents, self._rows[present])
            self._parts[name] = (present, prepared)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch as the keyword arguments of ``FusionRecommender.forward``."""
        batch = collate(examples)
        rng = np.random.default_rng([example.draw for example in examples])
        near = np.unique(np.concatenate([part for e in examples for part in (e.targets, e.items)]))
        live = {}
        for name, (present, prepared) in self._parts.items():
            able = near[present[near]]
            chosen = rng.choice(able, min(self._count, len(able)), replace=False)
            places, content = prepared.batch(self._rows[chosen])
            if len(places):
                live[name] = (torch.from_numpy(chosen[places]), content)
        return {**batch, "live": live}


class Refresh(TrainerCallback):
    """Makes the kept vectors anew after every epoch.

    A run that was killed between the last step of an epoch and its end, and goes on from the
    checkpoint of that step, makes up for it before it goes on: it sees what it would have seen.
    """

    def __init__(self, network: FusionNetwork, encoders: Mapping[str, ItemEncoder]) -> None:
        self._network, self._encoders = network, encoders

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make up for what a killed run did not come to."""
        if state.global_step and state.epoch == round(state.epoch):
            self._refresh()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refresh."""
        self._refresh()

    def _refresh(self) -> None:
        tower = self._network.item_tower
        for name, part in self._encoders.items():
            found, _ = encode(part.encoder, part.ids, part.contents)
            kept = tower.features(name)
            # What has become unreadable since keeps the vector that it had.
            rows = torch.from_numpy(np.flatnonzero(found.present)).to(kept.device)
            kept[rows] = torch.from_numpy(found.vectors[found.present]).to(kept)


def _bytes(value: Any) -> int:
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    return 36 * len(value) if isinstance(value, list) else 0  # an int and the reference to it
