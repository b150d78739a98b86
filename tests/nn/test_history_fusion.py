"""HistoryFusion: modes, tables and ragged inputs."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from nn_support import CASES, ITEMS, WIDTH, by_ids
from support import normal

from fusionops.nn import HistoryFusion


def table():
    return torch.nn.Embedding(ITEMS, WIDTH, _weight=normal(ITEMS, WIDTH, dtype=torch.float64))


def histories(batch=6):
    found = by_ids(batch, torch.float64)
    return found["history"], found["offsets"]


def lists(ids, offsets):
    return [ids[begin:end] for begin, end in pairwise(offsets)]


def test_mean_by_ids_and_by_rows():
    embedding, (ids, offsets) = table(), histories()
    expected = torch.stack(
        [embedding.weight[own].sum(0) / max(len(own), 1) for own in lists(ids, offsets)]
    )
    torch.testing.assert_close(HistoryFusion(WIDTH, embedding=embedding)(ids, offsets), expected)
    torch.testing.assert_close(HistoryFusion(WIDTH)(embedding(ids), offsets), expected)


def test_attention_with_one_query_for_all():
    embedding, (ids, offsets) = table(), histories()
    module = HistoryFusion(
        WIDTH, "attention", embedding=embedding, learned_query=True, dtype=torch.float64
    )
    expected = []
    for own in lists(ids, offsets):
        rows = embedding.weight[own]
        expected.append((rows @ module.query / WIDTH**0.5).softmax(0) @ rows)
    torch.testing.assert_close(module(ids, offsets), torch.stack(expected))
    given = HistoryFusion(WIDTH, "attention", embedding=embedding)
    query = module.query.expand(len(expected), WIDTH)
    torch.testing.assert_close(given(ids, offsets, query=query), torch.stack(expected))


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("history")])
def test_jagged(name):
    """A jagged tensor in place of `(history, offsets)`."""
    case = CASES[name]
    module, inputs = case.module(), case.inputs(6, torch.float32)
    expected = module(**inputs)
    history, offsets = inputs.pop("history"), inputs.pop("offsets")
    if "weights" in inputs:
        inputs["weights"] = torch.nested.nested_tensor_from_jagged(inputs["weights"], offsets)
    jagged = torch.nested.nested_tensor_from_jagged(history, offsets)
    torch.testing.assert_close(module(jagged, **inputs), expected)


def test_shared_embedding():
    embedding, (ids, offsets) = table(), histories()
    model = torch.nn.ModuleDict(
        {"table": embedding, "history": HistoryFusion(WIDTH, embedding=embedding)}
    )
    assert [name for name, _ in model.named_parameters()] == ["table.weight"]
    assert {*model.state_dict()} == {"table.weight", "history.embedding.weight"}
    before = embedding.weight.detach().clone()
    model["history"].reset_parameters()  # the table is its owner's
    assert torch.equal(embedding.weight, before)
    model["history"](ids, offsets).sum().backward()
    assert embedding.weight.grad[ids].any(1).all()
    model.to("meta").to_empty(device="cpu")
    assert model["history"].embedding.weight is model["table"].weight


def test_shared_parameter():
    weight, (ids, offsets) = torch.nn.Parameter(normal(ITEMS, WIDTH)), histories()
    module = HistoryFusion(WIDTH, embedding=weight)
    assert module.embedding.weight is weight
    module(ids, offsets).sum().backward()
    assert weight.grad is not None


def test_own_table_starts_as_an_embedding():
    torch.manual_seed(5)
    embedding = torch.nn.Embedding(ITEMS, WIDTH)
    torch.manual_seed(5)
    module = HistoryFusion(WIDTH, num_embeddings=ITEMS)
    assert torch.equal(module.embedding.weight, embedding.weight)
    torch.manual_seed(5)
    module.reset_parameters()
    assert torch.equal(module.embedding.weight, embedding.weight)


def test_an_id_outside_the_table():
    module = HistoryFusion(WIDTH, num_embeddings=ITEMS)
    with pytest.raises(IndexError):
        module(torch.tensor([ITEMS]), torch.tensor([0, 1]))
