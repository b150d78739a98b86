"""The Triton kernels that fuse profiles, in all forms of their operators, against float64."""

from __future__ import annotations

import pytest
import torch
from profile_support import cases, check
from support import name_of
from triton_support import INTERPRETED, needs_triton, rounded, served

pytestmark = needs_triton

CASES = cases(batch=5, rows=3, tokens=5, features=18, table=13)


@pytest.mark.parametrize(("mode", "dtype"), INTERPRETED, ids=name_of)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_interpreted(case, mode, dtype):
    with served(mode):
        check(case, case.leaves(dtype), weights=rounded(dtype))


# One of each kernel and of each thing that a kernel can be compiled with: a minute for all.
COMPILED_FORMS = {
    "weighted-mask",
    "weighted-shared",
    "self",
    "dropout",
    "bidirectional-values",
    "history-weights",
    "ids-attention",
}


@pytest.mark.parametrize("case", [case for case in CASES if case.name in COMPILED_FORMS], ids=str)
def test_compiled(case):
    with served("compiled"):
        check(case, case.leaves(torch.bfloat16), weights=rounded(torch.bfloat16))
