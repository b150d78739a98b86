"""Sizes past the limits of grids (65,535) and of 32-bit indices (2^31), and realistic ones."""

import pytest
import torch
from gpu_support import DEVICE, chosen, servers
from support import assert_within, bound, epsilon, normal

import fusionops
from fusionops import reference

ROWS = 65_537


@pytest.fixture(autouse=True)
def memory():
    """Gives back what a test took, and skips where there is too little."""
    if DEVICE.type == "cuda" and torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free GPU memory")
    yield
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


needs_gpu = pytest.mark.skipif(DEVICE.type == "cpu", reason="minutes on a CPU")


def made(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=DEVICE).to(dtype)


def close(found, truth, dtype, steps=64):
    """To a rounding of `dtype` and some of the sums, of the largest entry."""
    reach = float(truth.abs().max())
    limit = epsilon(dtype) * truth.abs() + steps * epsilon(torch.float32) * reach
    if dtype != torch.float32:
        # Weights, or sides, that were rounded before a product.
        limit = limit + epsilon(dtype) * reach
    worst = float(((found.double() - truth).abs() / limit).max())
    assert worst <= 1, f"{worst:.3g} times the limit"


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("server", servers("fusion_matrix"))
def test_matrix_of_more_than_31_bits(server, dtype):
    users, items = 46_400, 46_401
    user, item = made(users, 24, dtype=dtype), made(items, 24, dtype=dtype, seed=1)
    with chosen(server):
        found = fusionops.fusion_matrix(user, item)
        leaves = [side.requires_grad_() for side in (user, item)]
        grad = torch.ones(1, 1, dtype=dtype, device=DEVICE).expand(users, items)
        slopes = torch.autograd.grad(fusionops.fusion_matrix(*leaves), leaves, grad)
    rows = torch.tensor([0, 1, 2**31 // items, 2**31 // items + 1, users - 1], device=DEVICE)
    some, sides = user.detach()[rows].cpu(), item.detach().cpu()
    truth = reference.fusion_matrix(some.double(), sides.double())
    assert_within(found[rows].cpu(), truth, bound(some, sides, normalization="diagonal"))
    lengths = item.detach().double().norm(dim=1, keepdim=True)
    close(slopes[0][rows], (item.detach() / lengths).double().sum(0).expand(5, -1), dtype)
    total = user.detach().double().sum(0)
    unit = item.detach().double() / lengths
    close(slopes[1], (total - (unit @ total).unsqueeze(1) * unit) / lengths, dtype)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("fusion_topk"))
def test_topk_of_more_than_31_bits(server, dtype):
    users, items, k = 2200, 1_000_000, 20
    user, item = made(users, 32, dtype=dtype), made(items, 32, dtype=dtype, seed=1)
    with chosen(server):
        scores, indices = fusionops.fusion_topk(user, item, k)
    rows = torch.tensor([0, 1, 1023, 2147, 2148, users - 1], device=DEVICE)
    matrix = reference.fusion_matrix(user[rows].double(), item.double())
    truth = matrix.topk(k)[0]
    limit = 64 * epsilon(torch.float32) * float(matrix.abs().max())
    assert_within(scores[rows], truth, limit)
    assert_within(scores[rows], matrix.gather(1, indices[rows]), limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("fusion_topk"))
def test_topk_of_more_users_than_a_grid_has_rows(server, dtype):
    user, item = made(ROWS, 16, dtype=dtype), made(300, 16, dtype=dtype, seed=1)
    with chosen(server):
        scores, indices = fusionops.fusion_topk(user, item, 5)
    matrix = reference.fusion_matrix(user.double(), item.double())
    limit = 64 * epsilon(torch.float32) * float(matrix.abs().max())
    assert_within(scores, matrix.topk(5)[0], limit)
    assert_within(scores, matrix.gather(1, indices), limit)


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("fusion_cross_entropy"))
def test_cross_entropy_of_more_than_31_bits(server, dtype):
    users, items = ROWS, 32_800
    user, item = made(users, 32, dtype=dtype), made(items, 32, dtype=dtype, seed=1)
    target = torch.arange(users, device=DEVICE) * 7 % items
    leaves = [side.requires_grad_() for side in (user, item)]
    with chosen(server):
        losses = fusionops.fusion_cross_entropy(*leaves, target, reduction="none")
        slopes = torch.autograd.grad(losses.sum(), leaves)
    rows = torch.tensor([0, 1, 65_472, 65_473, 65_534, 65_535, ROWS - 1], device=DEVICE)
    some = user.detach()[rows].double().requires_grad_()
    truth = reference.fusion_cross_entropy(
        some, item.detach().double(), target[rows], reduction="none"
    )
    close(losses.detach()[rows], truth.detach(), torch.float32)
    close(slopes[0][rows], torch.autograd.grad(truth.sum(), some)[0], dtype)
    # The gradient of a few items, by the losses found: the probabilities are exp(s - lse).
    unit = torch.nn.functional.normalize(item.detach().double())
    lse = losses.detach().double() + (user.detach().double() * unit[target]).sum(1)
    for column in (0, 1, 255, items - 1):
        share = (user.detach().double() @ unit[column] - lse).exp()
        share = share - (target == column).double()
        pull = share @ user.detach().double()
        pull = (pull - (pull @ unit[column]) * unit[column]) / item.detach()[column].double().norm()
        close(slopes[1][column], pull, dtype, steps=512)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("fusion_contrastive"))
def test_contrastive_of_a_large_batch(server, dtype):
    leaves = [made(4099, 64, dtype=dtype, seed=seed).requires_grad_() for seed in (0, 1)]
    with chosen(server):
        loss = fusionops.fusion_contrastive(*leaves, normalization="cosine", scale=20.0)
        slopes = torch.autograd.grad(loss, leaves)
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    truth = reference.fusion_contrastive(*doubles, normalization="cosine", scale=20.0)
    close(loss.detach(), truth.detach(), torch.float32)
    for found, expected in zip(slopes, torch.autograd.grad(truth, doubles), strict=True):
        close(found, expected, dtype, steps=512)


def against_reference(server, dtype, function, truth, *leaves):
    """A result and its gradients, all rows, against the reference in float64 on the device."""
    wanting = [leaf.detach().requires_grad_() for leaf in leaves]
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    with chosen(server):
        found = function(*wanting)
        grad = made(*found.shape, dtype=dtype, seed=9)
        slopes = torch.autograd.grad(found, wanting, grad)
    expected = truth(*doubles)
    close(found.detach(), expected.detach(), dtype)
    for ours, theirs in zip(
        slopes, torch.autograd.grad(expected, doubles, grad.double()), strict=True
    ):
        close(ours, theirs, dtype, steps=512)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("weighted_fusion"))
def test_weighted_fusion(server, dtype):
    mask = made(ROWS, 4, seed=3) > -1
    against_reference(
        server,
        dtype,
        lambda values, logits: fusionops.weighted_fusion(values, logits, mask),
        lambda values, logits: reference.weighted_fusion(values, logits, mask),
        made(ROWS, 4, 64, dtype=dtype),
        made(ROWS, 4, seed=1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("attention_fusion"))
def test_attention_fusion(server, dtype):
    mask = made(ROWS, 4, seed=3) > -1
    against_reference(
        server,
        dtype,
        lambda *sides: fusionops.attention_fusion(*sides, mask, num_heads=2),
        lambda *sides: reference.attention_fusion(*sides, mask, num_heads=2, scale=32**-0.5)[0],
        *(made(ROWS, 4, 64, dtype=dtype, seed=seed) for seed in range(3)),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("batch", "tokens"), [(2, 1000), (ROWS, 3)], ids=str)
@pytest.mark.parametrize("server", servers("bidirectional_fusion"))
def test_bidirectional_fusion(server, batch, tokens, dtype):
    features = 64 if batch == 2 else 16
    against_reference(
        server,
        dtype,
        lambda user, item: fusionops.bidirectional_fusion(user, item)[0],
        lambda user, item: reference.bidirectional_fusion(
            user, item, user, item, scale=features**-0.5
        )[0],
        made(batch, tokens, features, dtype=dtype),
        made(batch, tokens + 1, features, dtype=dtype, seed=1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("server", servers("history_fusion"))
def test_history_fusion(server, dtype):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(0, 20, (ROWS,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).to(DEVICE)
    ids = torch.randint(5000, (int(lengths.sum()),), generator=generator).to(DEVICE)
    against_reference(
        server,
        dtype,
        lambda values, query: fusionops.history_fusion(values, offsets, query, ids=ids),
        lambda values, query: reference.history_fusion(values, offsets, query, ids=ids),
        made(5000, 32, dtype=dtype),
        made(ROWS, 32, dtype=dtype, seed=1),
    )


@needs_gpu
@pytest.mark.parametrize("server", servers("history_fusion"))
def test_history_fusion_of_rows_past_31_bits(server):
    """The last rows of a table of more than 2^31 entries."""
    values = torch.zeros(2**31 // 64 + 100, 64, dtype=torch.bfloat16, device=DEVICE)
    values[-90:] = normal(90, 64).bfloat16().to(DEVICE)
    ids = torch.arange(len(values) - 90, len(values), device=DEVICE)
    offsets = torch.tensor([0, 30, 90], device=DEVICE)
    with chosen(server):
        found = fusionops.history_fusion(values, offsets, ids=ids)
    tail = values[-90:].double()
    close(found, torch.stack([tail[:30].mean(0), tail[30:].mean(0)]), torch.bfloat16)
