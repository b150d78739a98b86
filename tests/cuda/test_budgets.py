"""What the CUDA kernels need of each GPU: registers, no spills, and loads of 16 bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass

import emulator
import pytest
from emulator import resources
from emulator.toolchain import ROOT

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=str(emulator.missing()))

CAPABILITIES = (80, 90, 100, 120)


@dataclass(frozen=True)
class Budget:
    """Of the kernels of ``csrc/cuda/{source}.cu`` whose mangled names `kernels` matches."""

    source: str
    kernels: str
    count: int
    registers: int
    shared: int = 0  # bytes declared; what a launch asks for beside that is the launcher's
    instructions: tuple[str, ...] = ()


# Mangled names of the tiles of scores: what a warp multiplies, and how.
LARGE_TENSOR, SMALL_TENSOR = r"TensorMathI\w+Li32ELi128EEE", r"TensorMathI\w+Li32ELi32EEE"
LARGE_FLOAT, SMALL_FLOAT = r"PlainMathIfLi16ELi128E", r"PlainMathIfLi32ELi32E"
STAGED = (r"LDGSTS\.E\.BYPASS\.128",)  # cp.async
TENSOR = (r"HMMA\.16(816|88)", r"LDSM\.16\.M88\.4", *STAGED)
FLOAT = (r"FFMA", r"LDS\.128", *STAGED)
WIDE = (r"LDG\.E\.128", r"STG\.E\.128")
BUDGETS = [
    Budget("attention_fusion", r"attention_kernelI.*Lb1ELi1E", 3, 96, 0, WIDE),
    Budget("attention_fusion", r"attention_kernelI.*Lb1ELi4E", 3, 128, 0, WIDE),
    Budget("attention_fusion", r"attention_kernelI.*Lb1ELi8E", 3, 255, 0, WIDE),
    Budget("attention_fusion", r"attention_kernelI.*Lb0ELi4E", 3, 96),
    Budget("attention_fusion_backward", r"backward_kernelI.*Lb1ELi1E", 3, 96, 0, WIDE),
    Budget("attention_fusion_backward", r"backward_kernelI.*Lb1ELi4E", 3, 168, 0, WIDE),
    Budget("attention_fusion_backward", r"backward_kernelI.*Lb1ELi8E", 3, 255, 0, WIDE),
    Budget("attention_fusion_backward", r"backward_kernelI.*Lb0ELi4E", 3, 96),
    Budget("attention_fusion_backward", r"sum_parts_kernelI", 3, 40, 4096),
    # Two blocks of 128 threads on a multiprocessor; four; three; four; three.
    Budget("fusion_matrix", LARGE_TENSOR, 3, 255, 0, (*TENSOR, r"STG\.E\.128")),
    Budget("fusion_matrix", SMALL_TENSOR, 3, 128, 0, (*TENSOR, r"STG\.E\.128")),
    Budget("fusion_matrix", LARGE_FLOAT, 1, 168, 0, (*FLOAT, r"STG\.E\.128")),
    Budget("fusion_matrix", SMALL_FLOAT, 1, 128, 0, (*FLOAT, r"STG\.E\.128")),
    Budget("fusion_matrix", r"PlainMathId", 1, 168, 0, (r"DFMA", *STAGED)),
    Budget("fusion_topk", LARGE_TENSOR, 3, 255, 0, TENSOR),
    Budget("fusion_topk", SMALL_TENSOR, 3, 128, 0, TENSOR),
    Budget("fusion_topk", LARGE_FLOAT, 1, 168, 0, FLOAT),
    Budget("fusion_topk", SMALL_FLOAT, 1, 128, 0, FLOAT),
    Budget("fusion_topk", r"merge_kernel", 1, 64),
]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("source", sorted({budget.source for budget in BUDGETS}))
def test_budgets(source, capability):
    kernels = resources.of_cuda(ROOT / "csrc" / "cuda" / f"{source}.cu", capability)
    budgets = [budget for budget in BUDGETS if budget.source == source]
    assert len(kernels) == sum(budget.count for budget in budgets)
    for budget in budgets:
        found = [kernel for name, kernel in kernels.items() if re.search(budget.kernels, name)]
        assert len(found) == budget.count, budget
        for kernel in found:
            assert 0 < kernel.registers <= budget.registers, kernel.kernel
            assert kernel.spill_stores == kernel.spill_loads == kernel.stack == 0, kernel.kernel
            assert kernel.shared <= budget.shared, kernel.kernel


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("source", sorted({budget.source for budget in BUDGETS}))
def test_instructions_that_must_be_there(source, capability):
    kernels = resources.of_cuda(ROOT / "csrc" / "cuda" / f"{source}.cu", capability)
    if not all(kernel.text for kernel in kernels.values()):
        pytest.skip("no cuobjdump: neither that of a CUDA toolkit nor that of Triton")
    for budget in (budget for budget in BUDGETS if budget.source == source):
        for name, kernel in kernels.items():
            if re.search(budget.kernels, name):
                for instruction in budget.instructions:
                    assert re.search(instruction, kernel.text), (name, instruction)
