"""What a FusionRecommender is made of: its config, checked when it is made."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PretrainedConfig
from typing_extensions import Self

FORMAT_VERSION = 1

FUSIONS = ("weighted", "attention", "deep")
BEHAVIOURS = ("mean", "attention", "gru", "transformer")
MAX_SCALE = 100.0
MISSING = ("left_out", "zeros")
LOSSES = ("cross_entropy", "contrastive")
NORMALIZATIONS = ("diagonal", "matrix", "cosine", "none")


class FusionRecommenderConfig(PretrainedConfig):
    """The parts and sizes of a :class:`FusionRecommender`.

    What a person chooses comes first; the sizes that the data give are filled in by ``fit``.

    Parameters
    ----------
    dim : int
        D, the width of tokens and of profiles.
    fusion : {"weighted", "attention", "deep"}
        How the tokens of an entity become one profile: a softmax-weighted sum, attention with a
        learned query, or transformer blocks and then attention.
    num_layers : int
        Transformer blocks of ``"deep"``.
    num_heads : int
        Heads of attention; must divide ``dim``.
    dropout : float
        In training, within ``"deep"``.
    item_ids, user_ids : bool
        Whether an item or a user has a token of its own, learned from behaviour. Without both the
        model is content-based; without features and tables it is collaborative.
    item_table, user_table : bool
        Whether the numeric and categorical columns make a token.
    touched : bool
        Whether a user has a token for each modality of the items of the history: what they touched
        is like.
    behaviour : {"mean", "attention", "gru", "transformer"}
        What makes a token of the items of a history: their weighted sum over the square root of
        their number, attention with a learned query, or a sequence model of what came last.
    residual : bool
        Whether the id of an item, and the behaviour of a user, also reach the profile past the
        fusion. Needed to start from the vectors of another model.
    token_norm : bool
        Whether tokens of features all have length 1 at first. Without it they are linear in the
        features: what is far from the average stays far, which pays where lengths
        say something, and not where some modality would be louder than the others.
    missing : {"left_out", "zeros"}
        What a missing token does: its weight goes to those that are present, or it counts as
        zeros, so that the less is known of an entity, the nearer to the average it is.
    normalization, power, ridge
        Of the fusion matrix that scores, as for :func:`fusionops.fusion_matrix`.
    loss : {"cross_entropy", "contrastive"}
        Softmax over all items with history, or within the batch and both ways.
    label_smoothing : float
        Of ``"cross_entropy"``.
    scale : float
        The first inverse temperature; it is learned.
    popularity_correction : float
        Factor on the log-popularity that is added to the logits in training and left out in
        serving (Menon et al. 2021): 1 takes popularity out of the scores, 0 leaves it in.
    modality_dropout, id_dropout : float
        Probabilities with which, in training, a token of content, or the id of an item or user, is
        taken for missing: how the model learns to do without.
    target_fraction : float
        Share of a history that a training example asks for, given the rest.
    max_history, max_targets : int
        Most items of a history that an example reads (the latest), and that it asks for (a random
        choice).
    rerank_candidates : int
        How many of the best items of retrieval the second stage ranks; 0 for none.
    rerank_history : int
        How many of the latest items of a history the second stage reads.
    items_per_chunk : int
        Items whose profiles are made at a time. A training step over more than that many makes
        them once more in its backward pass, in place of keeping what lies between.
    encoders : mapping of str to mapping, optional
        Modalities whose encoder is part of the model, each with ``modality``, ``model``,
        ``column``, ``adaptation`` and the options of
        :func:`fusionops.models.encoders.load_encoder`; see
        :mod:`fusionops.models.fusion_recommender.encoders`. ``fit`` fills in what is not said.
    live_items : int
        Items that an encoder which is trained encodes anew in a training step.
    encoder_learning_rate : float
        Of the weights of encoders, where the other weights have that of the arguments.
    num_items, num_users : int
    item_features : mapping of str to int
        Modalities of items and the width of their vectors.
    item_columns, user_columns : mapping, optional
        What the table encoders are made from.
    review_width, num_reviews : int
        Width and number of the vectors of the users' own reviews, 0 for none.
    events : sequence of str
        Kinds of event, each with a behaviour token of its own; empty: one token for all.

    Raises
    ------
    TypeError, ValueError
        A value of the wrong kind, out of range, or of a config of a later version.
    """

    model_type = "fusion_recommender"

    def __init__(
        self,
        dim: int = 256,
        fusion: str = "weighted",
        num_layers: int = 1,
        num_heads: int = 4,
        dropout: float = 0.1,
        item_ids: bool = True,
        user_ids: bool = False,
        item_table: bool = True,
        user_table: bool = True,
        touched: bool = True,
        behaviour: str = "mean",
        residual: bool = True,
        token_norm: bool = True,
        missing: str = "left_out",
        normalization: str = "none",
        power: float = 0.5,
        ridge: float = 0.0,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        scale: float = 1 / 0.07,
        popularity_correction: float = 0.0,
        modality_dropout: float = 0.2,
        id_dropout: float = 0.5,
        target_fraction: float = 0.3,
        max_history: int = 256,
        max_targets: int = 16,
        rerank_candidates: int = 0,
        rerank_history: int = 32,
        items_per_chunk: int = 4096,
        encoders: Mapping[str, Mapping[str, Any]] | None = None,
        live_items: int = 32,
        encoder_learning_rate: float = 5e-5,
        num_items: int = 0,
        num_users: int = 0,
        item_features: Mapping[str, int] | None = None,
        item_columns: Mapping[str, Any] | None = None,
        user_columns: Mapping[str, Any] | None = None,
        review_width: int = 0,
        num_reviews: int = 0,
        events: Sequence[str] = (),
        format_version: int = FORMAT_VERSION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if format_version != FORMAT_VERSION:
            raise ValueError(
                f"format_version: expected {FORMAT_VERSION}, got {format_version!r}; "
                "use the fusionops that wrote the model"
            )
        self.format_version = format_version
        self.dim = _count("dim", dim)
        self.fusion = _choice("fusion", fusion, FUSIONS)
        self.num_layers = _count("num_layers", num_layers)
        self.num_heads = _count("num_heads", num_heads)
        if self.dim % self.num_heads:
            raise ValueError(f"num_heads: expected a divisor of dim = {dim}, got {num_heads}")
        self.dropout = _share("dropout", dropout)
        self.item_ids = _flag("item_ids", item_ids)
        self.user_ids = _flag("user_ids", user_ids)
        self.item_table = _flag("item_table", item_table)
        self.user_table = _flag("user_table", user_table)
        self.touched = _flag("touched", touched)
        self.behaviour = _choice("behaviour", behaviour, BEHAVIOURS)
        self.residual = _flag("residual", residual)
        self.token_norm = _flag("token_norm", token_norm)
        self.missing = _choice("missing", missing, MISSING)
        self.normalization = _choice("normalization", normalization, NORMALIZATIONS)
        self.power = _number("power", power)
        self.ridge = _number("ridge", ridge)
        self.loss = _choice("loss", loss, LOSSES)
        self.label_smoothing = _share("label_smoothing", label_smoothing)
        if self.loss == "contrastive" and self.label_smoothing:
            raise ValueError("label_smoothing: expected 0 with loss 'contrastive'")
        self.scale = _number("scale", scale)
        if not 0 < self.scale <= MAX_SCALE:
            raise ValueError(f"scale: expected a number in (0, {MAX_SCALE:g}], got {scale}")
        self.popularity_correction = _number("popularity_correction", popularity_correction)
        self.modality_dropout = _share("modality_dropout", modality_dropout)
        self.id_dropout = _share("id_dropout", id_dropout)
        self.target_fraction = _share("target_fraction", target_fraction)
        self.max_history = _count("max_history", max_history)
        self.max_targets = _count("max_targets", max_targets)
        self.rerank_candidates = _count("rerank_candidates", rerank_candidates, least=0)
        self.rerank_history = _count("rerank_history", rerank_history)
        self.items_per_chunk = _count("items_per_chunk", items_per_chunk)
        self.encoders = _specs(encoders)
        self.live_items = _count("live_items", live_items)
        self.encoder_learning_rate = _number("encoder_learning_rate", encoder_learning_rate)
        self.num_items = _count("num_items", num_items, least=0)
        self.num_users = _count("num_users", num_users, least=0)
        self.item_features = dict(item_features or {})
        self.item_columns = None if item_columns is None else dict(item_columns)
        self.user_columns = None if user_columns is None else dict(user_columns)
        self.review_width = _count("review_width", review_width, least=0)
        self.num_reviews = _count("num_reviews", num_reviews, least=0)
        self.events = list(events)

    @classmethod
    def parameters(cls) -> list[str]:
        """The names of all parameters."""
        return [name for name in inspect.signature(cls).parameters if name != "kwargs"]

    @classmethod
    def of(cls, choices: Mapping[str, Any]) -> Self:
        """A config of choices by name; a name that it does not have is a TypeError.

        (Every ``PretrainedConfig`` takes any name, as its files may hold more.)
        """
        known = cls.parameters()
        for name in choices:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TypeError(
                    f"{name}: expected a choice of {cls.__name__}, got an unknown name{hint}"
                )
        return cls(**choices)


def _specs(encoders: Any) -> dict[str, dict[str, Any]]:
    if encoders is not None and not isinstance(encoders, Mapping):
        raise TypeError(
            f"encoders: expected a mapping of modalities, got {type(encoders).__name__}"
        )
    for name, spec in (encoders or {}).items():
        if not isinstance(spec, Mapping):
            raise TypeError(
                f"encoders[{name!r}]: expected a mapping such as {{'model': 'bert-base-uncased', "
                f"'column': 'description', 'adaptation': 'lora'}}, got {type(spec).__name__}"
            )
    return {name: dict(spec) for name, spec in (encoders or {}).items()}


def _count(name: str, value: Any, *, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return value


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")
    return float(value)


def _share(name: str, value: Any) -> float:
    if _number(name, value) >= 1:
        raise ValueError(f"{name}: expected a number in [0, 1), got {value}")
    return float(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")
    return value


def _choice(name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}")
    return str(value)
