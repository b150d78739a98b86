"""The network: towers of items and users, the loss of retrieval, the loss of re-ranking."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from fusionops import ops
from fusionops.models.encoders.base import Encoder
from fusionops.models.fusion_recommender.config import MAX_SCALE, FusionRecommenderConfig
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.item_tower import ItemTower
from fusionops.models.fusion_recommender.reranker import Reranker
from fusionops.models.fusion_recommender.softmax import softmax_loss
from fusionops.models.fusion_recommender.user_tower import UserTower
from fusionops.nn import FusionLoss
from fusionops.ops.normalization import Norm, normalize_flat


class FusionNetwork(PreTrainedModel):
    """What of a :class:`FusionRecommender` has parameters.

    Parameters
    ----------
    config : FusionRecommenderConfig
        Without the sizes of the data the parts are made by :meth:`build`, once they are known.
    """

    config_class = FusionRecommenderConfig
    base_model_prefix = "fusion_recommender"
    main_input_name = "history_items"
    supports_gradient_checkpointing = False
    # Checkpoints of the Trainer hold them, models that are saved have a folder for each.
    _keys_to_ignore_on_load_unexpected = [r"^encoders\."]  # noqa: RUF012 - not ours
    config: FusionRecommenderConfig
    log_popularity: Tensor

    def __init__(self, config: FusionRecommenderConfig) -> None:
        super().__init__(config)
        if config.num_items:
            self.build()

    def build(self) -> None:
        """Make the parts, with the sizes in the config."""
        config = self.config
        self.item_tower = ItemTower(config)
        self.user_tower = UserTower(config)
        self.loss = FusionLoss(
            config.loss,
            normalization=config.normalization,
            power=config.power,
            ridge=config.ridge,
            scale=config.scale,
            max_scale=MAX_SCALE,
            label_smoothing=config.label_smoothing,
        )
        self.reranker = Reranker(config.dim) if config.rerank_candidates else None
        self.register_buffer("log_popularity", torch.zeros(config.num_items))
        self.encoders = nn.ModuleDict()  # those that are trained
        self.frozen: dict[str, Encoder] = {}  # those that are not, and so have no part in it
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: every part has initialised itself."""

    def trained_rows(self) -> Tensor | None:
        """The codes of the items with history, None where that is all of them."""
        has_history = self.item_tower.has_history
        return None if bool(has_history.all()) else has_history.nonzero()[:, 0]

    def forward(
        self,
        users: Tensor,
        history_items: Tensor,
        history_offsets: Tensor,
        history_weights: Tensor,
        targets: Tensor,
        target_offsets: Tensor,
        positives: Tensor,
        positive_offsets: Tensor,
        history_events: Tensor | None = None,
        reviews: Tensor | None = None,
        review_offsets: Tensor | None = None,
        live: dict[str, tuple[Tensor, dict[str, Tensor]]] | None = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch of users.

        Parameters
        ----------
        users : Tensor
            ``int64 [B]``, their codes.
        history_items, history_offsets, history_weights, history_events : Tensor
            ``[T]``, ``[B + 1]``, ``[T]`` and ``[T]``: see :class:`RaggedHistories`. Items count
            among those with history (:meth:`trained_rows`), here and below.
        targets, target_offsets : Tensor
            ``int64 [N]`` and ``[B + 1]``: the items asked for.
        positives, positive_offsets : Tensor
            Ragged lists of all items of each user: no negatives.
        reviews, review_offsets : Tensor, optional
            Ragged rows of the reviews that count.
        live : dict of str to pair, optional
            For a modality whose encoder is trained, positions ``int64 [L]`` among the items with
            history, and the batch of their content that the encoder takes; see
            :mod:`fusionops.models.fusion_recommender.live`.

        Returns
        -------
        dict of str to Tensor
            ``loss``, and its parts ``retrieval_loss`` and ``rerank_loss``.
        """
        rows = self.trained_rows()
        histories = RaggedHistories(history_items, history_offsets, history_weights, history_events)
        own = None
        if self.config.review_width and reviews is not None and review_offsets is not None:
            own = (review_offsets, reviews)
        encoded = {
            name: (positions, self.encoders[name](**content))
            for name, (positions, content) in (live or {}).items()
        }
        item = self.item_tower(rows, live=encoded)
        user, _ = self.user_tower(item, histories, self.item_tower, rows, users, own)
        lists = (positive_offsets, positives)
        loss = self._retrieval_loss(user, item, rows, targets, target_offsets, lists)
        parts = {"loss": loss, "retrieval_loss": loss.detach()}
        if self.reranker is not None:
            rerank = self._rerank_loss(
                user.detach(), item.detach(), histories, targets, target_offsets, lists
            )
            parts |= {"loss": loss + rerank, "rerank_loss": rerank.detach()}
        return parts

    def score_vectors(self, item: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Item vectors ``[P, D]`` and a map ``[D, D]`` of users whose product is the fusion matrix.

        Parameters
        ----------
        item : Tensor
            ``[P, D]``, profiles of the catalogue.
        rows : Tensor or None
            ``int64``: the items that the Gram matrix of ``"matrix"`` is over.
        """
        norm = Norm(self.config.normalization, self.config.power, self.config.ridge)
        if norm.normalization == "matrix":
            fitted = item if rows is None else item[rows]
            eye = torch.eye(item.shape[1], dtype=item.dtype, device=item.device)
            return item, normalize_flat(eye, fitted, norm).user
        sides = normalize_flat(item[:0], item, norm)
        scaled = item if sides.item_scale is None else item * sides.item_scale[:, None]
        return scaled, None

    def user_vectors(self, user: Tensor, mapping: Tensor | None) -> Tensor:
        """Profiles on the scale of :meth:`score_vectors`, ``[U, D]``."""
        if mapping is not None:
            return user @ mapping
        if self.config.normalization == "cosine":
            return nn.functional.normalize(user)
        return user

    def rerank(
        self, user: Tensor, item: Tensor, histories: RaggedHistories, candidates: Tensor
    ) -> Tensor:
        """Scores of the second stage.

        Parameters
        ----------
        user : Tensor
            ``[B, D]``, and ``item [P, D]``: profiles that have gone through
            :meth:`user_vectors` and :meth:`score_vectors`.
        histories : RaggedHistories
        candidates : Tensor
            ``int64 [B, C]``, -1 for none.

        Returns
        -------
        Tensor
            ``[B, C]``, -inf where there is no candidate.
        """
        assert self.reranker is not None
        latest, present = histories.latest(self.config.rerank_history)
        vectors = item[candidates.clamp(min=0)]
        scores = self.loss.scale * torch.einsum("bd,bcd->bc", user, vectors)
        ranked: Tensor = self.reranker(
            item[latest],
            vectors,
            scores,
            history_mask=present,
            candidate_mask=candidates >= 0,
        )
        return ranked

    def _retrieval_loss(
        self,
        user: Tensor,
        item: Tensor,
        rows: Tensor | None,
        targets: Tensor,
        offsets: Tensor,
        positives: tuple[Tensor, Tensor],
    ) -> Tensor:
        lengths = offsets.diff()
        batch = torch.arange(len(lengths), device=lengths.device)
        of_user = batch.repeat_interleave(lengths, output_size=len(targets))
        loss: Tensor
        if self.config.loss == "contrastive":
            loss = self.loss(user[of_user], item[targets], ids=targets)
            return loss
        bias = None
        if self.config.popularity_correction:
            popularity = self.log_popularity if rows is None else self.log_popularity[rows]
            bias = self.config.popularity_correction * popularity
        if self.config.label_smoothing:  # spreads over what is no positive of the target's user
            exclude = _repeated(positives, of_user)
            loss = self.loss(user[of_user], item, targets, item_bias=bias, exclude=exclude)
            return loss
        vectors, mapping = self.score_vectors(item, None)
        user, scale = self.user_vectors(user, mapping), self.loss.scale
        return softmax_loss(user, vectors, targets, of_user, positives, scale=scale, bias=bias)

    def _rerank_loss(
        self,
        user: Tensor,
        item: Tensor,
        histories: RaggedHistories,
        targets: Tensor,
        offsets: Tensor,
        positives: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Softmax over one target of each user among what retrieval would have put before it."""
        vectors, mapping = self.score_vectors(item, None)
        user = self.user_vectors(user, mapping)
        count = min(self.config.rerank_candidates, len(item)) - 1
        _, negatives = ops.fusion_topk(
            user, vectors, max(1, count), normalization="none", exclude=positives
        )
        candidates = torch.cat([targets[offsets[:-1], None], negatives], 1)
        logits = self.rerank(user, vectors, histories, candidates)
        return nn.functional.cross_entropy(logits.float(), torch.zeros_like(candidates[:, 0]))


def _repeated(lists: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Ragged lists taken by row, once for each."""
    offsets, values = lists
    lengths = offsets.diff()[rows]
    taken = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    shift = (offsets[:-1][rows] - taken[:-1]).repeat_interleave(lengths)
    return taken, values[torch.arange(len(shift), device=shift.device) + shift]
