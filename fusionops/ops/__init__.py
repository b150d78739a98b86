"""The operators: one file each, with the public function, its checks, fake and gradient."""

from fusionops.ops.fusion_contrastive import fusion_contrastive
from fusionops.ops.fusion_cross_entropy import fusion_cross_entropy
from fusionops.ops.fusion_matrix import fusion_matrix
from fusionops.ops.fusion_recommend import fusion_recommend
from fusionops.ops.fusion_topk import fusion_topk

__all__ = [
    "fusion_contrastive",
    "fusion_cross_entropy",
    "fusion_matrix",
    "fusion_recommend",
    "fusion_topk",
]
