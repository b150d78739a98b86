"""Full-ranking evaluation: protocols, metrics, baselines, significance; faithfulness.

>>> split = protocols.warm(interactions)
>>> model = EASE().fit(split.train, items)
>>> _, ranked = model.rank(split.users, 20, candidates=split.candidates)
>>> evaluate(ranked, split, 20, model=model.name)["ndcg"]

Needs the libraries of ``fusionops[rec]``; torch is not imported.
"""

from fusionops.evaluation import faithfulness, protocols
from fusionops.evaluation.baselines import (
    EASE,
    Baseline,
    CarriedEASE,
    ItemKNN,
    Popularity,
    Random,
    SummedCarriedEASE,
)
from fusionops.evaluation.metrics import Evaluation, evaluate
from fusionops.evaluation.significance import Difference, compare, holm, paired_difference

__all__ = [
    "EASE",
    "Baseline",
    "CarriedEASE",
    "Difference",
    "Evaluation",
    "ItemKNN",
    "Popularity",
    "Random",
    "SummedCarriedEASE",
    "compare",
    "evaluate",
    "faithfulness",
    "holm",
    "paired_difference",
    "protocols",
]
