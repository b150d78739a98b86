"""Who takes part on a GPU; the calls themselves run on whatever device a case names."""

import pytest
import torch
from comparison import gpu
from comparison.cases import BACKWARD, CPU, OURS, Case, Suite, UnavailableError, call_of

import fusionops


def function(x):
    return (x * x).float()


def made(**options):
    def setup(case):
        assert case.contender in (OURS, "sdpa", "faiss")
        upstream = [torch.ones(3)] if case.direction == BACKWARD else []
        return call_of(case, function, (torch.tensor([1.0, 2.0, 3.0]),), *upstream)

    return Suite("", (OURS, "eager", "sdpa", "faiss"), setup, lambda case: None, **options)


def test_contenders(monkeypatch):
    monkeypatch.setattr(gpu.triton, "HOMES", {"attention_fusion": "", "weighted_fusion": ""})
    suite = made(gpu_contenders=("liger",))
    both = gpu.contenders("attention_fusion", suite)
    assert both == ((OURS, gpu.TRITON, "eager", "sdpa", "sdpa flash", "liger"), 2)
    assert gpu.contenders("weighted_fusion", suite).ours == 1
    assert gpu.contenders("fusion_topk", suite).ours == 1


def test_a_contender_in_a_context_is_its_base():
    case = Case((3,), BACKWARD, "sdpa flash", CPU, "bfloat16")
    squares, slopes = gpu.setup(made(), case)()
    assert squares.tolist() == [1, 4, 9]
    assert slopes.tolist() == [2, 4, 6]
    assert slopes.dtype == torch.bfloat16


def test_triton_is_chosen_for_the_call_alone(monkeypatch):
    entered = []

    class Choice:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *_):
            entered.append("out")

    monkeypatch.setattr(fusionops, "use_backend", Choice)
    call = gpu.setup(made(), Case((3,), BACKWARD, gpu.TRITON))
    assert entered == []
    call()
    assert entered == ["triton", "out"]


def test_memory_is_that_of_a_gpu():
    with pytest.raises(UnavailableError, match="not on a GPU"):
        gpu.peak_of(lambda: None, CPU)
