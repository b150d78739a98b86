"""The multimodal recommender; see :class:`FusionRecommender`."""

from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.recommender import FusionRecommender

__all__ = ["FusionRecommender", "FusionRecommenderConfig"]
