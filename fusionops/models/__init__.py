"""Recommenders built from the operators.

Needs the libraries of ``fusionops[rec]``.
"""

from typing import TYPE_CHECKING, Any

from fusionops.models.interface.recency import BASKET, NEXT_VISIT, Recency
from fusionops.models.linear_fusion import LinearFusion, Parameters

if TYPE_CHECKING:
    from fusionops.models.fusion_recommender import FusionRecommender, FusionRecommenderConfig

__all__ = [
    "BASKET",
    "NEXT_VISIT",
    "FusionRecommender",
    "FusionRecommenderConfig",
    "LinearFusion",
    "Parameters",
    "Recency",
]


def __getattr__(name: str) -> Any:
    """What imports transformers, which takes seconds, is imported when it is asked for."""
    if name in ("FusionRecommender", "FusionRecommenderConfig"):
        from fusionops.models import fusion_recommender

        return getattr(fusion_recommender, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
