"""Triton kernels as compiled for each GPU: registers, spills, shared memory, tensor cores.

At the sizes that matter there; nothing is run. The tables stand in ``tests/triton_budgets_*.py``.
"""

from __future__ import annotations

import pytest
from triton_budgets import SHARED, TENSOR_CORES, needs
from triton_budgets_profiles import PROFILES
from triton_budgets_scores import SCORES
from triton_support import needs_triton

pytestmark = needs_triton

TABLES = [*SCORES, *PROFILES]
CASES = [(budget, capability) for budget in TABLES for capability in budget.capabilities]


@pytest.mark.parametrize(
    ("budget", "capability"), CASES, ids=[f"{budget}-sm_{number}" for budget, number in CASES]
)
def test_budget(budget, capability):
    found = needs(budget, capability)
    assert {each.kernel for each in found} == set(budget.registers)
    for each in found:
        assert each.resources.registers <= budget.registers[each.kernel], each.kernel
        assert each.resources.spill_stores == each.resources.spill_loads == 0, each.kernel
        assert each.shared <= SHARED[capability], each.kernel
        instruction = "mma.sync" if budget.small_tiles else TENSOR_CORES[capability]
        used = instruction in each.resources.text
        assert used == (each.kernel in budget.tensor_cores), each.kernel
