"""A row of logits for each user gives what a row for each target does."""

import pytest
import torch

from fusionops import reference
from fusionops.models.fusion_recommender.softmax import softmax_loss

ITEMS, DIM = 7, 4
POSITIVES = [[0, 1, 4], [2], list(range(ITEMS)), [6, 5, 3]]  # the third has had everything
TARGETS = [[1, 4], [2], [0, 5], [3]]


def ragged(lists):
    lengths = torch.tensor([0, *map(len, lists)])
    return lengths.cumsum(0), torch.tensor([item for one in lists for item in one])


def by_target(user, item, scale, bias):
    """The loss by rows of logits repeated for each target."""
    _, targets = ragged(TARGETS)
    of_user = torch.arange(len(TARGETS)).repeat_interleave(torch.tensor([2, 1, 2, 1]))
    exclude = ragged([POSITIVES[u] for u in of_user.tolist()])
    return reference.fusion_cross_entropy(
        user[of_user],
        item,
        targets,
        scale=scale,
        item_bias=bias,
        exclude=exclude,
        normalization="none",
        power=0.5,
        ridge=0.0,
        eps=0.0,
    )


def by_user(user, item, scale, bias):
    _, targets = ragged(TARGETS)
    of_user = torch.arange(len(TARGETS)).repeat_interleave(torch.tensor([2, 1, 2, 1]))
    return softmax_loss(user, item, targets, of_user, ragged(POSITIVES), scale=scale, bias=bias)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0, 30.0])
def test_loss_and_gradients_are_those_of_a_row_for_each_target(biased, scale):
    generator = torch.Generator().manual_seed(3)
    sides = [torch.randn(n, DIM, generator=generator, dtype=torch.float64) for n in (4, ITEMS)]
    bias = 5 * torch.randn(ITEMS, generator=generator, dtype=torch.float64) if biased else None
    found = []
    for loss in (by_user, by_target):
        leaves = [side.clone().requires_grad_() for side in (*sides, torch.tensor(scale).double())]
        value = loss(*leaves, bias)
        found.append([value.detach(), *torch.autograd.grad(value, leaves)])
    for one, other in zip(*found, strict=True):
        # exp(-20) of the sum is what the item behind the others adds
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_a_user_with_nothing_left_to_choose_from_has_no_loss_and_no_gradient():
    user, item = torch.randn(1, DIM, requires_grad=True), torch.randn(3, DIM, requires_grad=True)
    loss = softmax_loss(
        user, item, torch.tensor([1]), torch.tensor([0]), ragged([[2, 0, 1]]), scale=1.0
    )
    gradients = torch.autograd.grad(loss, [user, item])
    assert loss.item() == 0
    assert all(bool((part == 0).all()) for part in gradients)
