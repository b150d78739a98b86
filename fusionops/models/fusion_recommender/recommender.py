"""FusionRecommender: features, tables, histories and ids of both sides, fused and trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoConfig, AutoModel, TrainerCallback, TrainingArguments, set_seed
from typing_extensions import Self

from fusionops.data.encoded import Encoded
from fusionops.data.ids import Codes
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.reviews import Reviews
from fusionops.data.users import Users
from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.encoders import (
    ItemEncoder,
    encode_added,
    encoded_inputs,
    install,
    load_encoders,
    save_encoders,
)
from fusionops.models.fusion_recommender.growing import grow
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.inputs import Inputs, features_in_order
from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.fusion_recommender.persistence import load_shelf, save_folder
from fusionops.models.fusion_recommender.serving import ragged, second_stage, with_kinds
from fusionops.models.fusion_recommender.shelf import Shelf
from fusionops.models.fusion_recommender.starting import start_from
from fusionops.models.fusion_recommender.training import train, training_arguments
from fusionops.models.fusion_recommender.without import without_each
from fusionops.models.interface import requests
from fusionops.models.interface.asked import Asked
from fusionops.models.interface.histories import Histories
from fusionops.models.interface.recommender import Recommender
from fusionops.models.interface.serving import Floats, Limits, Mask
from fusionops.models.interface.split_scores import WithoutModality
from fusionops.models.linear_fusion import LinearFusion

_USERS_AT_A_TIME = 1024


class FusionRecommender(Recommender, FusionNetwork):
    """A multimodal recommender: profiles fused from tokens on both sides, trained end to end.

    An item is the tokens of its modalities, of its table and of its id; a user those of the
    behaviour, of what the items of the history are like, of own reviews, table and id. What is
    missing is masked. Each side's tokens are fused into one profile (``weighted``, ``attention`` or
    ``deep`` fusion), and the fusion matrix of the profiles scores (retrieval). A second stage may
    rank the best again, by bidirectional fusion between history and candidates.

    Parameters
    ----------
    config : FusionRecommenderConfig, optional
    **choices
        Of the config, in place of it.

    Examples
    --------
    >>> model = FusionRecommender(dim=64, fusion="deep")
    >>> model.fit(interactions, items, features={"text": encoded}, arguments={"seed": 1})
    >>> model.recommend([17850, 13047], k=5).to_pandas()
    """

    name = "FusionRecommender"

    def __init__(self, config: FusionRecommenderConfig | None = None, **choices: Any) -> None:
        if config is not None and choices:
            raise TypeError("config: expected a config or single choices, got both")
        FusionNetwork.__init__(self, config or FusionRecommenderConfig.of(choices))
        self._kept: Shelf | None = None
        self._item = torch.empty(0)
        self._mapping: torch.Tensor | None = None
        self.log: list[dict[str, float]] = []

    def fit(
        self,
        interactions: Interactions,
        items: Items | None = None,
        *,
        features: Mapping[str, Encoded] | None = None,
        encoders: Mapping[str, Any] | None = None,
        users: Users | None = None,
        reviews: tuple[Reviews, Encoded] | None = None,
        start: LinearFusion | None = None,
        arguments: TrainingArguments | Mapping[str, Any] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        resume: bool | str | Path = False,
    ) -> Self:
        """Train by the Trainer of transformers.

        Parameters
        ----------
        interactions : Interactions
            Training rows; the catalogue is ``interactions.items``, which may hold items without
            rows. Where it has kinds of event, each becomes a token.
        items : Items, optional
            Its numeric and categorical columns become a token.
        features : mapping of str to Encoded, optional
            Vectors of the items in each modality, by any ids; what is not there is missing.
        encoders : mapping of str to Encoder or mapping, optional
            Modalities whose vectors encoders make of the raw content of the items, frozen or
            trained with the rest: ``{"text": {"model": "bert-base-uncased", "column":
            "description", "adaptation": "lora"}}``, see ``fusion_recommender.encoders`` and, for
            how they are trained, ``fusion_recommender.live``. By default those of the config. An
            Encoder in place of a mapping is trained in place.
        users : Users, optional
            Their numeric and categorical columns become a token.
        reviews : tuple of Reviews and Encoded, optional
            Reviews over the ids of the interactions, and the vectors of their rows.
        start : LinearFusion, optional
            Fitted on the same interactions: training begins at its scores, to within what the
            first ``dim`` of its dimensions hold.
        arguments : TrainingArguments or mapping, optional
            Of the Trainer; what a mapping does not say is as in ``training.DEFAULTS``, or with
            ``start`` as in ``training.STARTED``.
        callbacks : sequence of TrainerCallback
        resume : bool or path
            Go on from the last checkpoint in ``output_dir``, or from one that is named. Everything
            else has to be as it was.

        Raises
        ------
        TypeError, ValueError
            An input of the wrong kind or without what it needs; the argument is named.
        """
        chosen = training_arguments(arguments, started=start is not None)
        given = self.config.encoders if encoders is None else encoders
        own: dict[str, ItemEncoder] = {}
        if given:
            items, features, own = encoded_inputs(given, interactions, items, features, chosen)
        inputs = Inputs.checked(interactions, items, features, users, reviews)
        inputs.sizes(self.config)
        self._kept = None  # what was fitted before goes with the parts that are made anew
        set_seed(chosen.seed)
        self.build()
        install(self, own)
        histories = Histories.from_interactions(interactions, self.config.events)
        pairs = histories.pairs(len(inputs.items))
        pairs.eliminate_zeros()
        users_per_item = np.bincount(pairs.indices, minlength=len(inputs.items)).astype(np.int64)
        inputs.fill(self, users_per_item)
        if start is not None:
            start_from(self, start, interactions.items)
        none = np.empty((0, 0), np.float32)
        self._kept = Shelf(interactions.users, inputs.items, histories, users_per_item, none)
        distinct = histories.counted().distinct(len(inputs.items))
        self.log = train(
            self,
            inputs,
            distinct,
            chosen,
            callbacks=callbacks,
            resume=resume,
            started=start is not None,
            encoders=own,
        )
        self.eval()
        return self

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation mode; vectors are made anew after training."""
        if mode and self._kept is not None:
            self._kept = replace(self._kept, vectors=np.empty((0, 0), np.float32))
        return super().train(mode)  # type: ignore[no-any-return]

    def add_items(
        self,
        table: pa.Table | Mapping[str, Any] | Items,
        *,
        id: str = "item",
        features: Mapping[str, Encoded] | None = None,
    ) -> Self:
        """Put items without history into the catalogue, without training.

        Parameters
        ----------
        table : pyarrow.Table, mapping of columns, or Items
            With every column that the catalogue has.
        id : str
            The column of ids of a table.
        features : mapping of str to Encoded, optional
            Their vectors; a modality that is not there is encoded where the model has an encoder
            and the items have its content, else missing.

        Raises
        ------
        ValueError, InputError
            An id is in the catalogue already, or a column is missing.
        """
        shelf = self._shelf
        added = requests.new_items(table, shelf.items, id)
        unsaid = [name for name in self.config.encoders if name not in (features or {})]
        features = {**(features or {}), **encode_added(self, added, unsaid)}
        found = features_in_order(features, added.ids)
        for name, part in found.items():
            width = self.config.item_features.get(name)
            if width is None:
                known = ", ".join(map(repr, self.config.item_features)) or "none"
                raise ValueError(
                    f"features: expected modalities of the model, {known}, got {name!r}"
                )
            if part.width != width:
                raise ValueError(
                    f"features[{name!r}]: expected vectors of {width} numbers, got {part.width}"
                )
        grow(self, added, found)
        self._kept = replace(shelf.with_items(added), vectors=np.empty((0, 0), np.float32))
        return self

    def save_pretrained(  # type: ignore[override] # its many keywords are in kwargs
        self, save_directory: str | Path, **kwargs: Any
    ) -> None:
        """Write the model into a folder, over an older one.

        Parameters
        ----------
        save_directory : str or Path
            Gets the files of every PreTrainedModel, and the histories, ids and columns beside; an
            encoder that was trained has a folder of its own, ``encoders/NAME``.
        **kwargs
            Of ``PreTrainedModel.save_pretrained``.
        """
        tables, arrays = self._fitted.to_parts()
        if kwargs.get("state_dict") is None:
            state = self.state_dict()
            kwargs["state_dict"] = {k: v for k, v in state.items() if not k.startswith("encoders.")}
        write_network = super().save_pretrained

        def write(folder: Path) -> None:
            write_network(folder, **kwargs)
            save_encoders(self, folder)

        save_folder(save_directory, write, tables, arrays)

    @classmethod
    def from_pretrained(  # type: ignore[override] # its many keywords are in kwargs
        cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any
    ) -> Self:
        """Read a model that :meth:`save_pretrained` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            There is no model, or it is damaged, of something else, or of a later version.
        """
        tables, arrays = load_shelf(pretrained_model_name_or_path)
        path = str(pretrained_model_name_or_path)
        model: Self = super().from_pretrained(path, *args, **kwargs)
        try:
            model._kept = Shelf.from_parts(tables, arrays)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged or incomplete: {error}") from None
        for tensor in (*model.parameters(), *model.buffers()):
            # Out of the mapped file, where they begin anywhere: the last bits of a product may
            # depend on that, and the file may be replaced.
            tensor.data = tensor.data.clone()
        load_encoders(model, Path(path))
        model.eval()
        return model

    def __repr__(self) -> str:
        if self._kept is None:
            return "FusionRecommender(not fitted)"
        kept = self._kept
        return f"FusionRecommender({len(kept.users)} users, {len(kept.items)} items)"

    @property
    def _fitted(self) -> Shelf:
        if self._kept is None:
            raise RuntimeError("FusionRecommender is not fitted: call fit or from_pretrained first")
        return self._kept

    @property
    def _shelf(self) -> Shelf:
        shelf = self._fitted
        if len(shelf.vectors) == len(shelf.items):
            return shelf
        if self.training:
            raise RuntimeError("FusionRecommender is in training: call eval() first")
        with torch.no_grad():
            self._item = self.item_tower()
            vectors, self._mapping = self.score_vectors(self._item, self.trained_rows())
        self._kept = replace(shelf, vectors=vectors.float().cpu().numpy())
        return self._kept

    @torch.no_grad()
    def _profiles(self, asked: Asked) -> tuple[Floats, Mask]:
        assert self._shelf is not None
        item = self._item.to(self.device)  # the model may have moved since they were made
        mapping = None if self._mapping is None else self._mapping.to(self.device)
        profiles = np.empty((len(asked.users), self.config.dim), np.float32)
        known = np.empty(len(asked.users), bool)
        for rows in _batches(len(asked.users)):
            histories = self._histories(asked, rows)
            users = torch.from_numpy(asked.users[rows]).to(self.device)
            found, present = self.user_tower(item, histories, self.item_tower, None, users)
            profiles[rows] = self.user_vectors(found, mapping).float().cpu().numpy()
            known[rows] = present.cpu().numpy()
        return profiles, known

    def _histories(self, asked: Asked, rows: Codes) -> RaggedHistories:
        histories = with_kinds(asked.histories.of(rows), self._fitted.histories)
        return ragged(histories, asked.pairs[rows], self.device)

    def _pool(self, k: int) -> int | None:
        return max(k, self.config.rerank_candidates) if self.reranker is not None else None

    @torch.no_grad()
    def _without_modalities(self, asked: Asked, items: Codes) -> list[WithoutModality]:
        mapping = None if self._mapping is None else self._mapping.to(self.device)
        users = torch.from_numpy(asked.users).to(self.device)
        histories = self._histories(asked, np.arange(len(asked.users)))
        return list(without_each(self, users, histories, items, mapping))

    @torch.no_grad()
    def _ranked(
        self, asked: Asked, profiles: Floats, known: Mask, k: int, limits: Limits
    ) -> tuple[Floats, Codes]:
        pool = max(k, self.config.rerank_candidates)
        scores, items = super()._ranked(asked, profiles, known, pool, limits)
        if self.reranker is None:
            return scores, items
        vectors = torch.from_numpy(self._shelf.vectors).to(self.device)
        for part in _batches(int(known.sum())):
            rows = np.flatnonzero(known)[part]
            histories = self._histories(asked, rows)
            scores[rows], items[rows] = second_stage(
                self, vectors, profiles[rows], histories, items[rows]
            )
        return scores[:, :k], items[:, :k]


def _batches(count: int) -> Iterator[Codes]:
    for start in range(0, count, _USERS_AT_A_TIME):
        yield np.arange(start, min(start + _USERS_AT_A_TIME, count))


AutoConfig.register(FusionRecommenderConfig.model_type, FusionRecommenderConfig)
AutoModel.register(FusionRecommenderConfig, FusionRecommender)
