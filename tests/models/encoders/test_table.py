from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fusionops.data import Items
from fusionops.models.encoders.table import TableEncoder

pytestmark = pytest.mark.filterwarnings("ignore::fusionops.data.InputWarning")

TABLE = {
    "item": list("abcdef"),
    "price": [1.0, 3.0, None, 5.0, None, 3.0],
    "sold": [1.5e9, 1.5e9 + 3600, 1.5e9 - 3600, None, None, 1.5e9],
    "kind": ["mug", "bag", "mug", None, None, "lamp"],
    "colour": [None, "red", "red", "red", None, "blue"],
}
KINDS = {"numeric": ["price", "sold"], "categorical": ["kind", "colour"]}


def items(**changed: list) -> Items:
    return Items.from_table({**TABLE, **changed}, **KINDS)


def encoder(**options: object) -> TableEncoder:
    torch.manual_seed(0)
    return TableEncoder(TableEncoder.columns_of(items(), **options), 8).eval()


def vectors(of: Items, by: TableEncoder) -> torch.Tensor:
    return by(*by.rows_of(of))[0]


def test_numbers_are_standardised_by_those_that_are_known():
    numeric, _ = encoder().rows_of(items())
    known = ~numeric.isnan()
    assert known.tolist() == [[v is not None for v in row] for row in _columns("price", "sold")]
    torch.testing.assert_close(numeric.nanmean(0), torch.zeros(2), atol=1e-6, rtol=0)
    for column in numeric.T:  # also of seconds since 1970, whose deviation float32 would round away
        values = column[~column.isnan()]
        torch.testing.assert_close(values.std(correction=0), torch.tensor(1.0))
    assert numeric[0, 0] == pytest.approx((1 - 3) / np.sqrt(2))


def _columns(*names: str):
    return zip(*(TABLE[name] for name in names), strict=True)


def test_what_is_missing_is_not_a_mean_nor_a_zero():
    table = encoder()
    at_mean, absent = (
        vectors(items(price=[3.0] * 6), table),
        vectors(items(price=[None] * 6), table),
    )
    assert float((at_mean - absent).detach().norm(dim=1)[:4].min()) > 0.1
    other = items(colour=["none"] * 6), items(colour=[None] * 6)
    unknown, missing = (vectors(part, table).detach() for part in other)
    assert float((unknown - missing).norm(dim=1).min()) > 0.1


def test_rows_without_any_value_are_absent():
    table = encoder()
    found, present = table(*table.rows_of(items()))
    assert present.tolist() == [True, True, True, True, False, True]
    assert torch.equal(found[4], torch.zeros(8))
    torch.testing.assert_close(found[present].norm(dim=1), torch.ones(5))
    # An unknown category is something that is known of a row.
    assert table(*table.rows_of(items(kind=["new"] * 6)))[1].all()


def test_absent_rows_give_no_gradient_and_missing_values_no_nan():
    table = encoder()
    numeric, categorical = table.rows_of(items())
    table(numeric, categorical)[0].pow(3).sum().backward()
    assert all(bool(p.grad.isfinite().all()) and p.grad.any() for p in table.parameters())
    table.zero_grad()
    table(numeric[4:5], categorical[4:5])[0].sum().backward()
    assert not any(p.grad is not None and p.grad.any() for p in table.parameters())


def test_unknown_and_rare_categories():
    table = encoder()
    new, newer = (vectors(items(kind=[value] * 6), table) for value in ("new", "newer"))
    assert torch.equal(new, newer)
    rare = encoder(min_count=2)
    assert rare.columns["categorical"] == {"kind": ["mug"], "colour": ["red"]}
    assert torch.equal(
        *(vectors(items(kind=[value] * 6), rare) for value in ("lamp", "never seen"))
    )
    # An unknown category of one column leaves the others as they are, and adds nothing yet.
    codes = table.rows_of(items(kind=["new"] * 6))[1]
    assert codes[:, 0].tolist() == [1] * 6
    assert not table.categories[table.first[0] + 1].any()


def test_columns_do_not_share_categories():
    same = Items.from_table(
        {"item": ["a", "b"], "x": ["red", "blue"], "y": ["blue", "red"]}, categorical=["x", "y"]
    )
    torch.manual_seed(0)
    table = TableEncoder(TableEncoder.columns_of(same), 8)
    first, second = vectors(same, table)
    assert float((first - second).norm()) > 0.1


def test_it_is_made_again_from_json_and_its_weights():
    table = encoder()
    again = TableEncoder(json.loads(json.dumps(table.columns)), 8).eval()
    assert not torch.equal(vectors(items(), again), vectors(items(), table))
    again.load_state_dict(table.state_dict())
    assert torch.equal(vectors(items(), again), vectors(items(), table))


def test_odd_columns():
    odd = Items.from_table(
        {"item": ["a", "b"], "same": [0.1, 0.1], "none": [None, None], "kind": [None, None]},
        numeric=["same", "none"],
        categorical=["kind"],
    )
    columns = TableEncoder.columns_of(odd)
    assert columns["numeric"]["same"][1] == columns["numeric"]["none"][1] == 1.0
    assert columns["categorical"] == {"kind": []}
    table = TableEncoder(columns, 8)
    assert table.widths == (2, 1)
    assert bool(vectors(odd, table).isfinite().all())


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_one_kind_of_column_alone(kind):
    part = Items.from_table(TABLE, **{kind: KINDS[kind]})
    table = TableEncoder(TableEncoder.columns_of(part), 8)
    assert vectors(part, table).shape == (6, 8)
    assert table(*(rows[:0] for rows in table.rows_of(part)))[0].shape == (0, 8)


def test_it_learns_what_only_two_columns_together_say():
    torch.manual_seed(0)
    rows = 64
    generator = np.random.default_rng(0)
    price, kind = generator.normal(size=rows), generator.choice(["mug", "bag"], rows)
    data = Items.from_table(
        {"item": [str(i) for i in range(rows)], "price": price, "kind": kind.tolist()},
        numeric=["price"],
        categorical=["kind"],
    )
    label = torch.from_numpy((price > 0) == (kind == "mug")).long()
    table = TableEncoder(TableEncoder.columns_of(data), 16)
    head = torch.nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*table.parameters(), *head.parameters()], lr=0.02)
    rows_of = table.rows_of(data)
    for _ in range(100):
        loss = torch.nn.functional.cross_entropy(head(4 * table(*rows_of)[0]), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((head(4 * table(*rows_of)[0]).argmax(1) == label).float().mean()) > 0.95


def test_errors():
    table = encoder()
    with pytest.raises(ValueError, match="entities: expected a numeric column 'sold', got 'price'"):
        table.rows_of(Items.from_table(TABLE, numeric=["price"], categorical=["kind", "colour"]))
    with pytest.raises(ValueError, match="columns: expected a numeric or categorical column, got"):
        TableEncoder({"numeric": {}, "categorical": {}}, 8)
    with pytest.raises(ValueError, match="columns: expected what columns_of gives"):
        TableEncoder({"price": [0, 1]}, 8)
    with pytest.raises(ValueError, match="min_count: expected an integer of at least 1, got 0"):
        TableEncoder.columns_of(items(), min_count=0)
