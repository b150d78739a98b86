from __future__ import annotations

import pytest
import torch

from fusionops.models.encoders.behaviour import GRUBehaviour, TransformerBehaviour

KINDS = [GRUBehaviour, TransformerBehaviour]
OFFSETS = torch.tensor([0, 3, 3, 4, 11, 11])
VALUES = torch.randn(11, 8, generator=torch.Generator().manual_seed(0))


def made(kind, **options):
    torch.manual_seed(1)
    return kind(8, **options).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_does_not_depend_on_other_histories(kind):
    model = made(kind)
    together = model(VALUES, OFFSETS)
    assert together.shape == (5, 8)
    for row, (start, end) in enumerate(OFFSETS.unfold(0, 2, 1).tolist()):
        alone = model(VALUES[start:end], torch.tensor([0, end - start]))
        torch.testing.assert_close(together[row : row + 1], alone)
    with torch.no_grad():  # where PyTorch has kernels of its own for layers in evaluation
        torch.testing.assert_close(model(VALUES, OFFSETS), together)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_histories_are_zeros(kind):
    model = made(kind)
    vectors = model(VALUES, OFFSETS)
    assert not vectors[[1, 4]].any()
    assert vectors[[0, 2, 3]].any(1).all()
    none = model(VALUES[:0], torch.tensor([0, 0, 0]))
    assert torch.equal(none, torch.zeros(2, 8))
    assert model(VALUES[:0], torch.tensor([0])).shape == (0, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_order_counts(kind):
    model = made(kind)
    offsets = torch.tensor([0, 3])
    there, back = model(VALUES[:3], offsets), model(VALUES[:3].flip(0), offsets)
    assert float((there - back).detach().norm()) > 1e-2


def test_positions_count_from_the_newest_row():
    model = made(TransformerBehaviour)
    expected = model(VALUES, OFFSETS)
    newest, shift = OFFSETS[[1, 3, 4]] - 1, VALUES[5]
    moved = VALUES.index_add(0, newest, shift.expand(3, -1))
    with torch.no_grad():
        model.positions.weight[0] -= shift
    torch.testing.assert_close(model(moved, OFFSETS), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_long_histories_keep_their_end(kind):
    model = made(kind, max_length=4)
    end = torch.cat([VALUES[:3], VALUES[3:4], VALUES[7:11]])
    torch.testing.assert_close(model(VALUES, OFFSETS), model(end, torch.tensor([0, 3, 3, 4, 8, 8])))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_rows_that_count(kind):
    model = made(kind, max_length=4)
    values = VALUES.clone().requires_grad_()
    model(values, OFFSETS).pow(3).sum().backward()
    reached = values.grad.any(1).tolist()
    assert reached == [True] * 4 + [False] * 3 + [True] * 4
    unused = {n for n, p in model.named_parameters() if p.grad is None}
    assert not unused


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_other_histories_never_leaks(kind):
    values = VALUES.clone()
    values[0] = torch.nan
    vectors = made(kind)(values, OFFSETS)
    assert vectors[0].isnan().any()
    assert vectors[1:].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_came_last(kind):
    torch.manual_seed(0)
    model = kind(8)
    model.train()
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (64,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.nn.functional.normalize(
        torch.randn(int(offsets[-1]), 8, generator=generator), dim=1
    )
    label = (values[offsets[1:] - 2, 0] > 0).long()  # the sign of the one before
    head = torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()], lr=0.01)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(head(4 * model(values, offsets)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    found = head(4 * model(values, offsets)).argmax(1)
    assert float((found == label).float().mean()) > 0.9


def test_errors():
    model = made(GRUBehaviour)
    with pytest.raises(ValueError, match=r"values: expected \[T, 8\], got \[11, 4\]"):
        model(VALUES[:, :4], OFFSETS)
    with pytest.raises(IndexError, match="offsets: must rise from 0 to the number of rows"):
        model(VALUES, OFFSETS[:-2])
    with pytest.raises(ValueError, match="num_heads: expected a divisor of dim 8, got 3"):
        TransformerBehaviour(8, num_heads=3)
    with pytest.raises(ValueError, match="max_length: expected an integer of at least 1, got 0"):
        GRUBehaviour(8, max_length=0)
