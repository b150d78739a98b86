"""The eager recommender is the same model: the same loss, and the same gradients by name."""

import pytest
import torch
from bench_training import ONCE, eager_of, network, setup
from comparison.agreement import assert_agree
from comparison.cases import BACKWARD, EAGER, OURS, Case

SHAPE = (6, 130, 16)


@pytest.mark.parametrize("contender", [EAGER, ONCE])
def test_loss_and_gradients_agree_over_two_steps(contender):
    ours, theirs = (setup(Case(SHAPE, BACKWARD, name)) for name in (OURS, contender))
    first = ours()
    assert_agree(first, theirs())
    second = ours()
    assert_agree(second, theirs(), tolerance=1e-3)  # Adam's first step is a sign, 0 or not
    assert second[0] < first[0]


def test_parameters_are_the_same_and_its_own():
    ours = network(SHAPE)
    theirs = dict(eager_of(ours).named_parameters())
    assert {name: value.shape for name, value in ours.named_parameters()} == {
        name: value.shape for name, value in theirs.items()
    }
    with torch.no_grad():
        theirs["loss.log_scale"].fill_(0)
    assert ours.loss.log_scale.item() != 0
