"""The losses: the same bits for any number of threads and on every run, in O((U + P) D) memory."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from loss_support import targets
from support import NORMALIZATIONS, assert_bits, inputs, name_of, normal, random_lists

from fusionops import fusion_contrastive, fusion_cross_entropy

# Several tasks each way; a few users with a long catalogue; D past 256; many users, few items.
SHAPES = [(150, 4500, 70), (2, 30_000, 17), (65, 700, 260), (2000, 33, 20)]


def cross_entropy_and_gradients(shape, dtype, threads, everything=False, **options):
    users, items, _ = shape
    user, item = inputs(shape, dtype)  # on one thread: these would differ otherwise
    torch.set_num_threads(threads)
    scale, bias = torch.tensor(4.0), normal(items)
    leaves = [leaf.requires_grad_() for leaf in (user, item, scale, bias)]
    target = targets(users, items)
    if everything:
        target[::7] = -100
        options |= {"exclude": random_lists(users, items, items // 3), "label_smoothing": 0.1}
    loss = fusion_cross_entropy(user, item, target, scale=scale, item_bias=bias, **options)
    grad = normal(users, dtype=loss.dtype, seed=9) if loss.dim() else torch.ones_like(loss)
    found = torch.autograd.grad(loss, leaves, grad)
    torch.set_num_threads(1)
    return [loss.detach(), *found]


def contrastive_and_gradients(size, dtype, threads, ids=None, **options):
    batch, features = size
    leaves = [
        leaf.requires_grad_()
        for leaf in (*inputs((batch, batch, features), dtype), torch.tensor(4.0))
    ]
    torch.set_num_threads(threads)
    loss = fusion_contrastive(leaves[0], leaves[1], scale=leaves[2], ids=ids, **options)
    found = torch.autograd.grad(loss, leaves)
    torch.set_num_threads(1)
    return [loss.detach(), *found]


def assert_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert_bits(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES, ids=name_of)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_threads(normalization, shape):
    options = {"dtype": torch.float32, "normalization": normalization}
    expected = cross_entropy_and_gradients(shape, threads=1, **options)
    for threads in (2, 3):
        assert_same(cross_entropy_and_gradients(shape, threads=threads, **options), expected)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("shape", [(130, 3000, 33), (3, 20_000, 9)], ids=name_of)
def test_threads_with_everything(shape, dtype, reduction):
    options = {"dtype": dtype, "reduction": reduction, "everything": True}
    expected = cross_entropy_and_gradients(shape, threads=1, **options)
    for threads in (2, 3):
        assert_same(cross_entropy_and_gradients(shape, threads=threads, **options), expected)


@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=name_of)
@pytest.mark.parametrize("normalization", ["diagonal", "matrix", "cosine"])
def test_threads_of_contrastive(normalization, dtype, with_ids):
    size = (700, 40)
    ids = torch.arange(size[0]) // 5 if with_ids else None
    options = {"dtype": dtype, "normalization": normalization, "ids": ids}
    expected = contrastive_and_gradients(size, threads=1, **options)
    for threads in (2, 3):
        assert_same(contrastive_and_gradients(size, threads=threads, **options), expected)


def test_runs():
    """Where threads race for tasks, another run would give other bits."""
    shape = (150, 3000, 33)
    expected = cross_entropy_and_gradients(shape, torch.float32, 2, everything=True)
    pairs = contrastive_and_gradients((500, 33), torch.float32, 2)
    for _ in range(4):
        found = cross_entropy_and_gradients(shape, torch.float32, 2, everything=True)
        assert_same(found, expected)
        assert_same(contrastive_and_gradients((500, 33), torch.float32, 2), pairs)


def test_calls_from_several_python_threads():
    user, item = (side.requires_grad_() for side in inputs((60, 3000, 33), torch.float32))
    target = targets(60, 3000)

    def call():
        loss = fusion_cross_entropy(user, item, target) + fusion_contrastive(user, item[:60])
        return [loss.detach(), *torch.autograd.grad(loss, (user, item))]

    expected = call()
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(call) for _ in range(8)]:
            assert_same(found.result(), expected)


# 512 x 100,000 float32 logits are 195 MiB, 7,000 x 7,000 are 187 MiB; the gradients 4 to 12 MiB.
MEMORY = """
import resource, sys, torch, fusionops
torch.set_num_threads(int(sys.argv[1]))

def step(users, items):
    user, item = torch.randn(users, 16), torch.randn(items, 16)
    bias, scale = torch.randn(items), torch.tensor(2.0)
    leaves = [leaf.requires_grad_() for leaf in (user, item, scale, bias)]
    exclude = torch.arange(users + 1) * 3, torch.randint(items, (3 * users,))
    target = torch.randint(items, (users,))
    fusionops.fusion_cross_entropy(
        user, item, target, scale=scale, item_bias=bias, exclude=exclude, label_smoothing=0.1,
    ).backward()

def pairs(batch):
    user, item = (torch.randn(batch, 16, requires_grad=True) for _ in range(2))
    fusionops.fusion_contrastive(user, item, ids=torch.randint(batch, (batch,))).backward()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

step(16, 16), pairs(16)
before = peak()
step(512, 100_000)
middle = peak()
pairs(7_000)
print(middle - before, peak() - middle)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_memory(threads):
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(threads)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    cross_entropy, contrastive = map(float, done.stdout.split())
    assert cross_entropy < 64, f"{cross_entropy:.0f} MiB for the loss of 512 x 100,000"
    assert contrastive < 32, f"{contrastive:.0f} MiB for the loss of 7,000 pairs"
