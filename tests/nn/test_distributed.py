"""DDP and FSDP2 on two processes train to what one process trains to."""

from __future__ import annotations

import subprocess
import sys

import nn_distributed
import pytest
import torch


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_two_processes_train_as_one(wrapper, tmp_path):
    command = [sys.executable, nn_distributed.__file__, wrapper]
    workers = [
        subprocess.Popen([*command, str(rank), "2", str(tmp_path)], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=300)[1].decode() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(errors)
    model = nn_distributed.initial()
    nn_distributed.train(model)
    expected = model.state_dict()
    found = torch.load(tmp_path / "state.pt", weights_only=True)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)
