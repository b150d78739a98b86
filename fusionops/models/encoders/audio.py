"""Sounds to vectors by audio models of transformers: wav2vec2 and its kin, AST, Whisper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionops.models.encoders import _hub
from fusionops.models.encoders._pooling import masked_mean
from fusionops.models.encoders._sound import MAX_SECONDS, checked_seconds, read_sound
from fusionops.models.encoders.adaptation import Adaptation, adapt, merged
from fusionops.models.encoders.base import Encoder, Unreadable


class AudioEncoder(Encoder):
    """An audio model, and the mean over its frames or what it pools them to itself.

    Parameters
    ----------
    backbone : transformers.PreTrainedModel
        Gives ``last_hidden_state``, and ``pooler_output`` where it pools; :meth:`from_pretrained`
        loads one.
    extractor : transformers.FeatureExtractionMixin
        Its feature extractor.
    max_seconds : float
        Kept of a sound, from its beginning. Models of a fixed length, such as Whisper (30 seconds)
        and AST (10), may keep less.
    adaptation : {"frozen", "lora", "full"}
        What of the weights is trained.
    rank : int
        Of ``"lora"``.
    """

    modality = "audio"

    def __init__(
        self,
        backbone: Any,
        extractor: Any,
        *,
        max_seconds: float = MAX_SECONDS,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
    ) -> None:
        config = backbone.config
        own = "output_hidden_size" if getattr(config, "add_adapter", False) else "hidden_size"
        super().__init__(int(getattr(config, own)), adaptation)
        self.extractor = extractor
        self.max_seconds = checked_seconds(max_seconds)
        # Masking frames at random fails on sounds shorter than a mask, and belongs to pretraining.
        config.apply_spec_augment = False
        adapt(backbone, adaptation, rank)
        mask = getattr(backbone, "masked_spec_embed", None)
        if mask is not None:
            mask.requires_grad_(False)
        self.backbone: nn.Module = backbone
        # A norm over all samples of a sound would take in its padding, so there must be none.
        self._alone = getattr(config, "feat_extract_norm", None) == "group"
        self.train(self.training)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        max_seconds: float = MAX_SECONDS,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
        dtype: str = "float32",
        revision: str | None = None,
    ) -> AudioEncoder:
        """Load a model with its feature extractor; of an encoder and a decoder, the encoder.

        Parameters
        ----------
        model : str or Path
            A folder, or an id on the Hugging Face hub.
        max_seconds, adaptation, rank
            As of the class.
        dtype : str
            Of the weights; ``"auto"``: that of the checkpoint.
        revision : str, optional
            On the hub.

        Raises
        ------
        OSError
            Nothing is there, or the hub does not give it.
        ValueError
            The folder is not that of a model, or lacks weights or the feature extractor.
        """
        from transformers import AutoFeatureExtractor

        source = _hub.locate(model, revision=revision)
        config = _hub.load_config(source, "audio")
        extractor = _hub.load(AutoFeatureExtractor, "feature extractor", source)
        backbone: Any = _hub.load_backbone(source, config, dtype)
        if getattr(config, "is_encoder_decoder", False):
            backbone = backbone.get_encoder()
        return cls(backbone, extractor, max_seconds=max_seconds, adaptation=adaptation, rank=rank)

    def prepare(self, content: Any) -> dict[str, Any]:
        """What the model takes of a sound: samples, or a spectrum.

        Parameters
        ----------
        content : str, Path, tuple or numpy.ndarray
            A file of any format that libsndfile reads; samples ``[T]`` or ``[T, channels]`` at the
            model's rate; or samples and their rate. Channels are averaged.

        Returns
        -------
        dict of str to Tensor
            ``values``: ``[T]`` or ``[T, F]`` or ``[F, T]``; ``mask``: where there is sound.

        Raises
        ------
        Unreadable
            It is missing, damaged, no sound, or too short for the model.
        """
        rate = self.extractor.sampling_rate
        wave = read_sound(content, rate, self.max_seconds)
        features = self.extractor(
            wave, sampling_rate=rate, return_tensors="pt", return_attention_mask=True
        )
        values = features[self.extractor.model_input_names[0]][0]
        mask = features.get("attention_mask")
        mask = torch.ones(len(values)) if mask is None else mask[0]
        if self._frames_of(mask.sum()) < 1:
            raise Unreadable(f"the sound is too short for the model: {len(wave)} samples")
        return {"values": values, "mask": mask.long()}

    def length(self, prepared: Mapping[str, Any]) -> int:
        """The samples or frames that the model reads."""
        return len(prepared["mask"])

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Values and mask, padded on the right with zeros."""
        return {
            name: nn.utils.rnn.pad_sequence([one[name] for one in prepared], batch_first=True)
            for name in ("values", "mask")
        }

    def encode(self, **batch: Tensor) -> Tensor:
        """The vectors ``[B, width]``."""
        values, mask = batch["values"].to(self.dtype), batch["mask"]
        if not self._alone:
            return self._vectors(values, mask)
        lengths = mask.sum(1).tolist()
        return torch.cat(
            [
                self._vectors(values[i : i + 1, :n], mask[i : i + 1, :n])
                for i, n in enumerate(lengths)
            ]
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """Write a folder of transformers; how much is kept of a sound is an option."""
        merged(self.backbone).save_pretrained(folder)
        self.extractor.save_pretrained(folder)
        return {"max_seconds": self.max_seconds, "dtype": self.dtype_name}

    def settings(self) -> dict[str, Any]:
        """The configuration, the feature extractor, and what is kept of a sound."""
        extractor = {"class": type(self.extractor).__name__, **self.extractor.to_dict()}
        return {
            "max_seconds": self.max_seconds,
            "config": _hub.configuration(self.backbone.config),
            "extractor": extractor,
        }

    def _vectors(self, values: Tensor, mask: Tensor) -> Tensor:
        name = self.extractor.model_input_names[0]
        masked = {} if self._alone or not self._takes_mask() else {"attention_mask": mask}
        output = self.backbone(**{name: values}, **masked)
        pooled: Tensor | None = output.get("pooler_output")
        if pooled is not None:
            return pooled
        states: Tensor = output.last_hidden_state
        frames = torch.arange(states.shape[1], device=states.device)
        return masked_mean(states, frames < self._frames_of(mask.sum(1))[:, None])

    def _takes_mask(self) -> bool:
        return hasattr(self.backbone, "_get_feature_vector_attention_mask")

    def _frames_of(self, lengths: Tensor) -> Tensor:
        """How many frames of the result stand for so many of the input."""
        count: Any = getattr(self.backbone, "_get_feat_extract_output_lengths", None)
        frames: Tensor = lengths if count is None else count(lengths)
        return frames
