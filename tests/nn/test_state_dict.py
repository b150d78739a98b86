"""State dicts load across versions: their names and shapes are pinned, and a file of 0.1 loads.

``python tests/nn/test_state_dict.py`` writes the file anew, for a form of a module that is new.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # to run as a script

from nn_support import CASES, call

FILE = Path(__file__).parent / "state_0_1.safetensors"

PROJECTIONS = {"in_proj_weight": [24, 8], "out_proj.weight": [8, 8]}
ATTENTION = {**PROJECTIONS, "in_proj_bias": [24], "out_proj.bias": [8]}
BLOCK = {
    **{f"self_attn.{name}": shape for name, shape in ATTENTION.items()},
    "linear1.weight": [32, 8],
    "linear1.bias": [32],
    "linear2.weight": [8, 32],
    "linear2.bias": [8],
    **{f"norm{n}.{name}": [8] for n in (1, 2) for name in ("weight", "bias")},
}
LAST_NORM = {"norm3.weight": [8], "norm3.bias": [8]}
TABLE = {"embedding.weight": [11, 8]}
STATES = {
    "matrix": {},
    "weighted_global": {"bias": [3]},
    "weighted_content": {"bias": [3], "weight": [8]},
    "attention_self": ATTENTION,
    "attention_cross": PROJECTIONS,
    "attention_pooled": {**ATTENTION, "query": [1, 8]},
    "attention_queries": {**PROJECTIONS, "query": [2, 8]},
    "bidirectional": {
        f"{side}_proj.{name}": shape
        for side in ("user", "item")
        for name, shape in (("weight", [16, 8]), ("bias", [16]))
    },
    "bidirectional_plain": {},
    "history_mean": TABLE,
    "history_weighted": {},
    "history_attention": TABLE,
    "history_learned": {**TABLE, "query": [8]},
    "deep": BLOCK,
    "deep_mean": {**BLOCK, **LAST_NORM},
    "deep_attention": {
        **BLOCK,
        **LAST_NORM,
        "linear1.weight": [10, 8],
        "linear1.bias": [10],
        "linear2.weight": [8, 10],
        **{f"pool.{name}": shape for name, shape in ATTENTION.items()},
        "pool.query": [1, 8],
    },
    "loss_cross_entropy": {"log_scale": [1]},
    "loss_contrastive": {"log_scale": [1]},
}


def randomized(name):
    """The module with every parameter off its initial value."""
    module = CASES[name].module(seed=1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("name", CASES)
def test_names_and_shapes(name):
    found = {key: list(value.shape) for key, value in CASES[name].module().state_dict().items()}
    assert found == STATES[name]


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_0_1_loads(name):
    """Into a module of today, which gives the results of then."""
    parts = {"state": {}, "input": {}, "result": {}}
    for key, value in load_file(FILE).items():
        case, part, own_name = key.split("/")
        if case == name:
            parts[part][own_name] = value
    module = CASES[name].module()
    module.load_state_dict(parts["state"])
    for number, result in enumerate(call(module, parts["input"])):
        torch.testing.assert_close(result, parts["result"][str(number)], rtol=1e-5, atol=1e-6)


def write():
    tensors = {}
    for name, case in CASES.items():
        module, inputs = randomized(name), case.inputs(3, torch.float32)
        parts = {
            "state": module.state_dict(),
            "input": inputs,
            "result": {str(number): value for number, value in enumerate(call(module, inputs))},
        }
        for part, values in parts.items():
            for own_name, value in values.items():
                tensors[f"{name}/{part}/{own_name}"] = value.detach().contiguous()
    save_file(tensors, FILE)


if __name__ == "__main__":
    write()
