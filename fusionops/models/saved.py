"""A saved model of whichever kind."""

from __future__ import annotations

import json
from pathlib import Path

from fusionops.models.interface.recommender import Recommender


def load_model(path: str | Path) -> Recommender:
    """Read what ``save_pretrained`` of a recommender wrote.

    Parameters
    ----------
    path : str or Path
        The folder.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no model, or it is damaged, of something else, or of a later version.
    """
    config = Path(path) / "config.json"
    try:
        kind = json.loads(config.read_bytes()).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = None  # for LinearFusion to say what is wrong
    if kind == "fusion_recommender":
        from fusionops.models.fusion_recommender import FusionRecommender

        return FusionRecommender.from_pretrained(path)
    from fusionops.models.linear_fusion import LinearFusion

    return LinearFusion.from_pretrained(path)
