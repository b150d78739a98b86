"""Calls that Triton serves, traced whole: the choice of who serves leaves no break in the graph."""

import emulator.triton
import pytest
import torch
from support import normal

import fusionops

pytestmark = pytest.mark.skipif(
    emulator.triton.missing() is not None, reason=str(emulator.triton.missing())
)

CALLS = {
    "fusion_matrix": lambda x: fusionops.fusion_matrix(x[0], x[1]),
    "fusion_cross_entropy": lambda x: fusionops.fusion_cross_entropy(
        x[0], x[1], torch.arange(x.shape[1])
    ),
    "fusion_contrastive": lambda x: fusionops.fusion_contrastive(x[0], x[1]),
    "weighted_fusion": lambda x: fusionops.weighted_fusion(x, x[..., 0]),
    "attention_fusion": lambda x: fusionops.attention_fusion(x, x, x, num_heads=2),
    "bidirectional_fusion": lambda x: fusionops.bidirectional_fusion(x, x.flip(1))[0],
    "history_fusion": lambda x: fusionops.history_fusion(x[0], torch.tensor([0, 2, 5])),
}


@pytest.mark.parametrize("name", CALLS)
def test_compiles_in_one_graph(name):
    torch._dynamo.reset()
    x = normal(2, 5, 8, dtype=torch.float32).requires_grad_()
    with emulator.triton.mode("compiled"), fusionops.use_backend("triton"):
        expected = CALLS[name](x)
        found = torch.compile(CALLS[name], fullgraph=True, backend="aot_eager")(x)
        slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*slopes)
    torch._dynamo.reset()
