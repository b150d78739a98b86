"""The Online Retail data that ships with the package (UCI 352, CC BY 4.0; see ONLINE_RETAIL.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fusionops.data.ids import Codes, IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.report import Report
from fusionops.data.tables import read_table

Values = npt.NDArray[np.float64]

PATH = Path(__file__).with_name("online_retail.parquet")


def load(*, report: Report | None = None) -> tuple[Interactions, Items]:
    """Return the purchases and the items, cleaned.

    A purchase has a known customer, is no cancellation, has a positive quantity and price, and is
    of a product: a StockCode that begins with five digits. An item is the StockCode in upper case,
    its text the most frequent Description (the first in the alphabet among equals), its price the
    median UnitPrice.

    Parameters
    ----------
    report : Report, optional
        Receives a sentence with the count for each cleaning step, and for the repeated lines of
        invoices, which are in the source and stay: a pair counts once in every protocol.

    Returns
    -------
    interactions : Interactions
        396,337 rows in the order of the file, with time and session (the invoice); users and
        items sorted by id.
    items : Items
        3,659 items in the order of ``interactions.items``, with text ``description`` and
        numeric ``price`` and ``code``, the five digits: neighbours were listed together.
    """
    report = Report() if report is None else report
    table = _clean(read_table(PATH), report)
    interactions = Interactions.from_table(
        table,
        user="CustomerID",
        item="StockCode",
        time="InvoiceDate",
        session="InvoiceNo",
        report=report,
    )
    descriptions = _most_frequent_text(table)
    paid = table["UnitPrice"].to_numpy().astype(np.float64)
    prices = _median(interactions.item, paid, len(interactions.items))
    items = Items(
        ids=interactions.items,
        text={"description": [descriptions.get(code) for code in interactions.items.ids.tolist()]},
        numeric={"price": prices, "code": _digits(interactions.items)},
    )
    return interactions, items


def _clean(table: pa.Table, report: Report) -> pa.Table:
    """Return the rows that are purchases of products, StockCode in upper case."""
    code = pc.utf8_upper(table["StockCode"])
    table = table.set_column(table.column_names.index("StockCode"), "StockCode", code)
    steps = (
        ("without a customer", "CustomerID", pc.is_valid),
        ("of cancelled invoices", "InvoiceNo", lambda c: pc.invert(pc.starts_with(c, "C"))),
        ("with a quantity of 0 or less", "Quantity", lambda c: pc.greater(c, 0)),
        ("with a price of 0 or less", "UnitPrice", lambda c: pc.greater(c, 0)),
        (
            "whose StockCode is no product",
            "StockCode",
            lambda c: pc.match_substring_regex(c, r"^\d{5}"),
        ),
    )
    for what, name, test in steps:
        keep = pc.fill_null(test(table[name]), False)
        gone = table.filter(pc.invert(keep))
        if gone.num_rows:
            example = {column: gone[column][0].as_py() for column in ("InvoiceNo", name)}
            shown = ", ".join(f"{column} {value}" for column, value in example.items())
            report.add(
                f"online_retail: {gone.num_rows:,} rows {what}, for example {shown}; left out",
                gone.num_rows,
                example,
            )
        table = table.filter(keep)
    return table


def _most_frequent_text(table: pa.Table) -> dict[str, str]:
    """Map StockCode to its most frequent Description."""
    counts = table.group_by(["StockCode", "Description"]).aggregate([([], "count_all")])
    counts = counts.filter(pc.is_valid(counts["Description"]))
    # Sorted by count ascending and text descending, the last writer of a dict is the answer.
    counts = counts.sort_by([("count_all", "ascending"), ("Description", "descending")])
    return dict(
        zip(counts["StockCode"].to_pylist(), counts["Description"].to_pylist(), strict=True)
    )


def _digits(items: IdMap) -> Values:
    """Return the five digits that each StockCode begins with, without its variant's letters."""
    return np.array([float(code[:5]) for code in items.ids.tolist()])


def _median(group: Codes, values: Values, n: int) -> Values:
    """Return the median of each of the groups 0..n-1, none of them empty; shape ``[n]``."""
    order = np.lexsort((values, group))
    size = np.bincount(group, minlength=n)
    start = np.cumsum(size) - size
    ordered = values[order]
    low, high = ordered[start + (size - 1) // 2], ordered[start + size // 2]
    return np.asarray((low + high) / 2)
