"""The baselines that every figure stands beside."""

from fusionops.evaluation.baselines.base import Baseline
from fusionops.evaluation.baselines.carried import CarriedEASE, SummedCarriedEASE
from fusionops.evaluation.baselines.ease import EASE
from fusionops.evaluation.baselines.item_knn import ItemKNN
from fusionops.evaluation.baselines.simple import Popularity, Random

__all__ = [
    "EASE",
    "Baseline",
    "CarriedEASE",
    "ItemKNN",
    "Popularity",
    "Random",
    "SummedCarriedEASE",
]
