"""The closed form of the fusion matrix as a recommender; see :class:`LinearFusion`."""

from fusionops.models.interface.recency import BASKET, NEXT_VISIT, Recency
from fusionops.models.linear_fusion.parameters import Parameters
from fusionops.models.linear_fusion.recommender import LinearFusion

__all__ = ["BASKET", "NEXT_VISIT", "LinearFusion", "Parameters", "Recency"]
