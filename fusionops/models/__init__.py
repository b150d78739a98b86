"""Recommenders built from the operators.

Needs the libraries of ``fusionops[rec]``.
"""

from fusionops.models.linear_fusion import BASKET, NEXT_VISIT, LinearFusion, Parameters, Recency

__all__ = ["BASKET", "NEXT_VISIT", "LinearFusion", "Parameters", "Recency"]
