"""Modules over the operators, one file each: parameters, and one call of an operator.

Those over modality tokens are called alike, ``module(tokens, mask)``, so that one can take the
place of another.
"""

from fusionops.nn.attention_fusion import AttentionFusion
from fusionops.nn.bidirectional_fusion import BidirectionalFusion
from fusionops.nn.deep_fusion import DeepFusion
from fusionops.nn.fusion_loss import FusionLoss
from fusionops.nn.fusion_matrix import FusionMatrix
from fusionops.nn.history_fusion import HistoryFusion
from fusionops.nn.weighted_fusion import WeightedFusion

__all__ = [
    "AttentionFusion",
    "BidirectionalFusion",
    "DeepFusion",
    "FusionLoss",
    "FusionMatrix",
    "HistoryFusion",
    "WeightedFusion",
]
