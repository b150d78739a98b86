"""Texts to vectors by BERT and its kin, or by GPT, Llama and theirs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from fusionops.models.encoders import _hub
from fusionops.models.encoders._pooling import masked_mean
from fusionops.models.encoders.adaptation import Adaptation, adapt, merged
from fusionops.models.encoders.base import Encoder, Unreadable

Pooling = Literal["mean", "cls", "last"]

_MOST_TOKENS = 512
_MASK = "attention_mask"


class TextEncoder(Encoder):
    """A language model and how its tokens become one vector.

    Parameters
    ----------
    backbone : transformers.PreTrainedModel
        Gives ``last_hidden_state``; :meth:`from_pretrained` loads one.
    tokenizer : transformers.PreTrainedTokenizerBase
        It needs no padding token: batches are padded here.
    pooling : {"auto", "mean", "cls", "last"}
        The mean over the tokens, the first token, or the last one. ``"auto"`` takes the last for
        models that only look back (autoregressive ones), as no other token has seen all of the
        text, and the mean for all others.
    max_length : int, optional
        Tokens kept of a text, from its beginning; by default what the model takes, up to 512.
    adaptation : {"frozen", "lora", "full"}
        What of the weights is trained.
    rank : int
        Of ``"lora"``.

    Raises
    ------
    ValueError
        A word or number that is none of these, or more tokens than the model has positions.
    """

    modality = "text"

    def __init__(
        self,
        backbone: Any,
        tokenizer: Any,
        *,
        pooling: Pooling | Literal["auto"] = "auto",
        max_length: int | None = None,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
    ) -> None:
        super().__init__(int(backbone.config.hidden_size), adaptation)
        if pooling not in ("auto", *get_args(Pooling)):
            raise ValueError(f"pooling: expected 'auto', 'mean', 'cls' or 'last', got {pooling!r}")
        self.pooling: Pooling = automatic_pooling(backbone.config) if pooling == "auto" else pooling
        self.max_length = _length(max_length, backbone.config, tokenizer)
        self.tokenizer = tokenizer
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # not used, so its weights would never get a gradient
        adapt(backbone, adaptation, rank)
        self.backbone: nn.Module = backbone
        self.train(self.training)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        pooling: Pooling | Literal["auto"] = "auto",
        max_length: int | None = None,
        adaptation: Adaptation = "frozen",
        rank: int = 8,
        dtype: str = "float32",
        gguf_file: str | None = None,
        revision: str | None = None,
    ) -> TextEncoder:
        """Load a model with its tokenizer.

        Parameters
        ----------
        model : str or Path
            A folder, a ``.gguf`` file, or an id on the Hugging Face hub.
        pooling, max_length, adaptation, rank
            As of the class; ``"auto"`` also follows a sentence-transformers folder.
        dtype : str
            Of the weights; ``"auto"``: that of the checkpoint.
        gguf_file : str, optional
            Which file of the folder, where it holds several.
        revision : str, optional
            On the hub.

        Raises
        ------
        OSError
            Nothing is there, or the hub does not give it.
        ValueError
            The folder is not that of a model, or lacks weights or the tokenizer.
        """
        from transformers import AutoTokenizer

        source = _hub.locate(model, gguf_file=gguf_file, revision=revision)
        config = _hub.load_config(source, "text")
        tokenizer = _hub.load(AutoTokenizer, "tokenizer", source)
        backbone: Any = _hub.load_backbone(source, config, dtype)
        if getattr(config, "is_encoder_decoder", False):
            backbone = backbone.get_encoder()
        if pooling == "auto":
            pooling = _declared_pooling(source) or "auto"
        return cls(
            backbone,
            tokenizer,
            pooling=pooling,
            max_length=max_length,
            adaptation=adaptation,
            rank=rank,
        )

    def prepare(self, content: Any) -> dict[str, Any]:
        """Tokens of a text.

        Parameters
        ----------
        content : str

        Returns
        -------
        dict of str to list of int
            ``input_ids``, and what else the model takes for each token.

        Raises
        ------
        Unreadable
            It is no text, or blank.
        """
        if not isinstance(content, str):
            raise Unreadable(f"expected a text, got {type(content).__name__}")
        if not content.strip():
            raise Unreadable("the text is blank")
        tokens = self.tokenizer(content, truncation=True, max_length=self.max_length)
        if not tokens["input_ids"]:
            raise Unreadable("the text has no token that the model knows")
        return {name: tokens[name] for name in tokens if name != _MASK}

    def length(self, prepared: Mapping[str, Any]) -> int:
        """The number of tokens."""
        return len(prepared["input_ids"])

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Token ids and mask ``int64 [B, L]``, padded on the right."""
        padding = {"input_ids": self.tokenizer.pad_token_id or 0}
        batch = {
            name: nn.utils.rnn.pad_sequence(
                [torch.tensor(one[name]) for one in prepared],
                batch_first=True,
                padding_value=padding.get(name, 0),
            )
            for name in prepared[0]
        }
        lengths = torch.tensor([self.length(one) for one in prepared])
        batch[_MASK] = (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()
        return batch

    def encode(self, **batch: Tensor) -> Tensor:
        """Pool the last hidden states ``[B, L, width]`` to ``[B, width]``."""
        options = {"use_cache": False} if hasattr(self.backbone.config, "use_cache") else {}
        states: Tensor = self.backbone(**batch, **options).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "last":
            last = batch[_MASK].sum(1) - 1
            return states[torch.arange(len(states), device=states.device), last]
        return masked_mean(states, batch[_MASK])

    def save(self, folder: Path) -> dict[str, Any]:
        """Write a folder of transformers; pooling and tokens kept are options."""
        _hub.save(merged(self.backbone), folder)
        self.tokenizer.save_pretrained(folder)
        return {
            "pooling": self.pooling,
            "max_length": self.max_length,
            "dtype": self.dtype_name,
        }

    def settings(self) -> dict[str, Any]:
        """Pooling, tokens kept, the configuration, and a hash of the tokenizer."""
        return {
            "pooling": self.pooling,
            "max_length": self.max_length,
            "config": _hub.configuration(self.backbone.config),
            "tokenizer": _tokenizer_hash(self.tokenizer),
        }


def automatic_pooling(config: Any) -> Pooling:
    """``"last"`` where the model of a configuration only looks back, else ``"mean"``."""
    from transformers.models.auto import modeling_auto as known

    kind = config.model_type
    looks_back = kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    both_ways = kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if getattr(config, "is_encoder_decoder", False):
        return "mean"  # its encoder looks both ways
    if kind == "clip_text_model" or getattr(config, "is_decoder", False):
        return "last"
    return "last" if looks_back and not both_ways else "mean"


def _length(wanted: int | None, config: Any, tokenizer: Any) -> int:
    positions = getattr(config, "max_position_embeddings", None)
    # T5 and other models with relative positions have no such number, or -1 for it.
    limits = [n for n in (positions, tokenizer.model_max_length) if n is not None and n > 0]
    if wanted is None:
        return int(min([_MOST_TOKENS, *limits]))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise ValueError(f"max_length: expected an integer of at least 1, got {wanted!r}")
    if limits and wanted > min(limits):
        raise ValueError(
            f"max_length: expected at most {min(limits)}, which this model takes, got {wanted}"
        )
    return wanted


def _declared_pooling(source: _hub.Source) -> Pooling | None:
    """What the folder of a sentence-transformers model says; None where there is no such file."""
    from transformers.utils.hub import cached_file

    path = cached_file(
        source.name,
        "1_Pooling/config.json",
        revision=source.options.get("revision"),
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if path is None:
        return None
    declared = json.loads(Path(path).read_text(encoding="utf-8"))
    names: dict[str, Pooling] = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}
    chosen = [names[name] for name in names if declared.get(f"pooling_mode_{name}")]
    return chosen[0] if len(chosen) == 1 else None


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        described = {"kind": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        described = json.loads(backend.to_str())
        # How the last call padded and truncated, which is no property of the tokenizer.
        described.pop("truncation", None)
        described.pop("padding", None)
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
