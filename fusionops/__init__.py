"""fusionops: fused user-item fusion operators for PyTorch, and a recommender made of them.

Names are loaded when they are first used (PEP 562), so that ``import fusionops`` costs nothing and
``fusionops.catalog`` runs without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusionops.backend import use_backend
    from fusionops.catalog import Catalog
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

__version__ = "0.1.0"

__all__ = [
    "Catalog",
    "attention_fusion",
    "bidirectional_fusion",
    "fusion_contrastive",
    "fusion_cross_entropy",
    "fusion_matrix",
    "fusion_recommend",
    "fusion_topk",
    "history_fusion",
    "mmr_rerank",
    "use_backend",
    "weighted_fusion",
]

_HOME = {
    "Catalog": "fusionops.catalog",
    "attention_fusion": "fusionops.ops",
    "bidirectional_fusion": "fusionops.ops",
    "fusion_contrastive": "fusionops.ops",
    "fusion_cross_entropy": "fusionops.ops",
    "fusion_matrix": "fusionops.ops",
    "fusion_recommend": "fusionops.ops",
    "fusion_topk": "fusionops.ops",
    "history_fusion": "fusionops.ops",
    "mmr_rerank": "fusionops.ops",
    "weighted_fusion": "fusionops.ops",
    "use_backend": "fusionops.backend",
}
NOT_BUILT = (
    f"fusionops was not built in {__path__[0]}: install it with 'pip install .' and start Python "
    f"outside the source folder, or build in place with 'pip install -e .'"
)
_SUBMODULES = (
    "backend",
    "catalog",
    "data",
    "evaluation",
    "info",
    "models",
    "nn",
    "ops",
    "reference",
)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    if name == "_native":
        try:
            return importlib.import_module("fusionops._native")
        except ModuleNotFoundError:
            raise ImportError(NOT_BUILT) from None
    if name in _SUBMODULES:
        return importlib.import_module(f"fusionops.{name}")
    raise AttributeError(f"module 'fusionops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
