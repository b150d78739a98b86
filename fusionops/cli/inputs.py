"""A stranger's files to interactions and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fusionops.cli.options import event_weights
from fusionops.data import (
    EVENT_WEIGHTS,
    Encoded,
    IdMap,
    Interactions,
    Items,
    Report,
    read_table,
)


@dataclass(frozen=True)
class InteractionColumns:
    """Names of the columns of interactions; time and session are looked for where None."""

    user: str = "user"
    item: str = "item"
    time: str | None = None
    session: str | None = None
    event: str | None = None
    weight: str | None = None
    event_weights: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ItemColumns:
    """Names of the columns of items; by their types where none is named."""

    id: str = "item"
    text: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


def columns_of(params: Mapping[str, Any]) -> tuple[InteractionColumns, ItemColumns]:
    """The columns that the options of a command name, by the names of its parameters."""
    interactions = InteractionColumns(
        params["user_column"],
        params["item_column"],
        params["time_column"],
        params["session_column"],
        params["event_column"],
        params["weight_column"],
        event_weights(params["event_weight"] or ()),
    )
    kinds = (tuple(params[kind] or ()) for kind in ("text", "numeric", "categorical"))
    return interactions, ItemColumns(params["item_id_column"] or interactions.item, *kinds)


def read_interactions(path: Path, columns: InteractionColumns, report: Report) -> Interactions:
    """Read interactions; ids of CSV files stay text, so that ``00123`` keeps its zeros."""
    if columns.event_weights and columns.event is None:
        raise ValueError("--event-weight needs --event-column, the name of the column of events")
    table = read_table(path, strings=(columns.user, columns.item))
    weights = columns.event_weights or (None if columns.event is None else EVENT_WEIGHTS)
    return Interactions.from_table(
        table,
        user=columns.user,
        item=columns.item,
        time=_present(columns.time, "time", table),
        session=_present(columns.session, "session", table),
        event=columns.event,
        weight=columns.weight,
        event_weights=weights,
        report=report,
    )


def read_items(path: Path, columns: ItemColumns, report: Report) -> Items:
    """Read items, with the columns named or, where none is, those of a usable type."""
    table = read_table(path, strings=(columns.id,))
    if not (columns.text or columns.numeric or columns.categorical):
        columns = _by_type(table, columns.id, report)
    return Items.from_table(
        table,
        id=columns.id,
        text=columns.text,
        numeric=columns.numeric,
        categorical=columns.categorical,
        report=report,
    )


def with_catalogue(
    interactions: Interactions, items: Items, report: Report
) -> tuple[Interactions, Items]:
    """Ids of one kind, and the items that nobody has had yet behind the others.

    Codes of the interactions stay as they are.
    """
    ours, theirs = interactions.items, items.ids
    if ours.ids.dtype.kind != theirs.ids.dtype.kind:
        report.add(
            "items: ids are integers in one file and text in the other; both are read as text",
            len(theirs),
            severity="note",
        )
        ours, theirs = _as_text(ours), _as_text(theirs)
        items = replace(items, ids=theirs)
    new = ours.encode(theirs.ids, unknown="mark") < 0
    if new.any():
        ours = IdMap(np.concatenate([ours.ids, theirs.ids[new]]))
    return replace(interactions, items=ours), items


def with_features(
    interactions: Interactions,
    items: Items | None,
    features: Mapping[str, Encoded],
    report: Report,
) -> tuple[Interactions, Items, dict[str, Encoded]]:
    """Ids of one kind; without a table of items, those that have vectors are the catalogue.

    Codes of the interactions stay as they are.
    """
    known = [interactions.items, *(one.ids for one in features.values())]
    if len({ids.ids.dtype.kind for ids in known}) > 1:
        report.add(
            "features: ids are integers in one file and text in the other; both are read as text",
            sum(map(len, features.values())),
            severity="note",
        )
        interactions = replace(interactions, items=_as_text(interactions.items))
        items = None if items is None else replace(items, ids=_as_text(items.ids))
        features = {name: replace(one, ids=_as_text(one.ids)) for name, one in features.items()}
    if items is None:
        ids = np.concatenate([one.ids.ids for one in features.values()])
        interactions, items = with_catalogue(interactions, Items(IdMap(np.unique(ids))), report)
    return interactions, items, dict(features)


def _as_text(ids: IdMap) -> IdMap:
    return IdMap(ids.ids.astype(str))


def _present(named: str | None, usual: str, table: pa.Table) -> str | None:
    return named or (usual if usual in table.column_names else None)


def _by_type(table: pa.Table, id: str, report: Report) -> ItemColumns:
    text, numeric, unused = [], [], []
    for field in table.schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name == id:
            continue
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            text.append(field.name)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            numeric.append(field.name)
        else:
            unused.append(field.name)
    if unused:
        report.add(
            f"items: {len(unused)} columns of a type that is neither text nor number, for example "
            f"{unused[0]!r}; not used",
            len(unused),
            unused[0],
            severity="note",
        )
    return ItemColumns(id, tuple(text), tuple(numeric))
