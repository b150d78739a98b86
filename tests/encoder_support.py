"""What must hold for the encoders of every modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionops.models.encoders import Encoder


def encoded(encoder: Encoder, contents: Sequence[Any]) -> Tensor:
    """The vectors of all contents, in one batch."""
    return encoder(**encoder.collate([encoder.prepare(content) for content in contents]))


def assert_independent_of_the_batch(encoder: Encoder, contents: Sequence[Any]) -> None:
    """Contents of different lengths have the same vectors together and one by one."""
    lengths = {encoder.length(encoder.prepare(content)) for content in contents}
    together = encoded(encoder, contents)
    alone = torch.cat([encoded(encoder, [content]) for content in contents])
    assert len(lengths) == len(contents), "this test needs contents of different lengths"
    assert together.shape == (len(contents), encoder.width)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    # Vectors that all agree would pass the above.
    assert float(torch.pdist(together.detach().double()).min()) > 1e-4


def assert_frozen(encoder: Encoder, contents: Sequence[Any]) -> None:
    """No gradient, and evaluation mode always."""
    before = encoded(encoder, contents)
    outer = torch.nn.Sequential(encoder).train()
    assert outer.training
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoded(encoder, contents).requires_grad
    assert torch.equal(before, encoded(encoder, contents))


def assert_trains_only_adapters(encoder: Encoder, contents: Sequence[Any]) -> None:
    """A step of training changes the vectors by way of the adapters, and no other weight."""
    encoder.train()
    assert encoder.training
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    encoded(encoder, contents).square().sum().backward()
    optimizer.step()
    changed = {n for n, value in encoder.state_dict().items() if not torch.equal(value, before[n])}
    assert changed
    assert all("lora_" in name for name in changed)
