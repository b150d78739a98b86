"""Synthetic data with a known truth: a shop whose users, items and contents come from factors.

>>> from fusionops.data import synthetic
>>> shop = synthetic.make(missing=0.4, seed=1)
>>> shop.contributions([0], [7])  # what text, image and audio truly add to this pair

Nothing here is observed: it is for measuring what real data cannot tell, such as how near a model
comes to the best possible ranking, and whether an explanation names the true reason.
"""

from fusionops.data.synthetic.factors import MAX_FACTORS, MODALITIES, Truth
from fusionops.data.synthetic.shop import Synthetic, make

__all__ = ["MAX_FACTORS", "MODALITIES", "Synthetic", "Truth", "make"]
