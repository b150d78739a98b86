"""The operators: one file each, with the public function, its checks, fake and gradient."""

from fusionops.ops._skipping import skip_small_gradients
from fusionops.ops.attention_fusion import attention_fusion
from fusionops.ops.bidirectional_fusion import bidirectional_fusion
from fusionops.ops.fusion_contrastive import fusion_contrastive
from fusionops.ops.fusion_cross_entropy import fusion_cross_entropy
from fusionops.ops.fusion_matrix import fusion_matrix
from fusionops.ops.fusion_recommend import fusion_recommend
from fusionops.ops.fusion_topk import fusion_topk
from fusionops.ops.history_fusion import history_fusion
from fusionops.ops.mmr_rerank import mmr_rerank
from fusionops.ops.weighted_fusion import weighted_fusion

__all__ = [
    "attention_fusion",
    "bidirectional_fusion",
    "fusion_contrastive",
    "fusion_cross_entropy",
    "fusion_matrix",
    "fusion_recommend",
    "fusion_topk",
    "history_fusion",
    "mmr_rerank",
    "skip_small_gradients",
    "weighted_fusion",
]
