"""Importing is cheap, lazy, and does not bring what was not asked for."""

from __future__ import annotations

import inspect

import pytest

import fusionops


def test_import_adds_little_to_torch(run_python):
    """`import fusionops` and its operators take at most 50 ms more than `import torch`."""
    code = """
        import time
        import torch
        begin = time.perf_counter()
        import fusionops
        print(time.perf_counter() - begin)
    """
    # The best of three: other processes share the cores.
    assert min(float(run_python(code)) for _ in range(3)) < 0.050


@pytest.mark.parametrize("module", ["fusionops", "fusionops.catalog", "fusionops.data"])
def test_import_does_not_bring_torch(run_python, module):
    assert run_python(f"import sys, {module}; print('torch' in sys.modules)").strip() == "False"


def test_catalog_searches_without_torch(run_python):
    code = """
        import sys
        import numpy as np
        from fusionops.catalog import Catalog
        catalog = Catalog.build(np.eye(3), ids=["a", "b", "c"])
        print(catalog.search(np.array([[0.0, 2.0, 1.0]]), 2)[1].tolist(), "torch" in sys.modules)
    """
    assert run_python(code).strip() == "[['b', 'c']] False"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fusion_matrixx'"):
        fusionops.fusion_matrixx  # noqa: B018


def test_everything_public_resolves():
    for name in fusionops.__all__:
        assert getattr(fusionops, name) is not None
        assert name in dir(fusionops)


NORM = {"normalization": "diagonal", "power": 0.5, "ridge": 0.0, "eps": 0.0}


@pytest.mark.parametrize(
    ("function", "positional", "keywords"),
    [
        ("fusion_matrix", ["user", "item"], NORM),
        ("fusion_recommend", ["user", "item", "values"], NORM),
        (
            "fusion_topk",
            ["user", "item", "k"],
            {**NORM, "item_bias": None, "exclude": None, "allowed": None, "candidates": None},
        ),
    ],
)
def test_signatures_are_frozen(function, positional, keywords):
    parameters = inspect.signature(getattr(fusionops, function)).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == keywords


def test_info_prints_a_report(run_python):
    from fusionops.info import render, report

    text = render(report())
    for word in ("fusionops", "torch", "processor", "isa", "fusion_topk"):
        assert word in text
