"""The table of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fusionops.data.entities import Entities
from fusionops.data.report import Report


class Items(Entities):
    """The items of a catalogue with their text, numbers, categories and media paths."""

    @classmethod
    def from_table(
        cls,
        table: pa.Table | Mapping[str, Any],
        *,
        id: str = "item",
        text: Sequence[str] = (),
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        media: Sequence[str] = (),
        report: Report | None = None,
    ) -> Items:
        """As :meth:`Entities.from_table`, with ``item`` as the column of ids."""
        return super().from_table(
            table,
            id=id,
            text=text,
            numeric=numeric,
            categorical=categorical,
            media=media,
            report=report,
        )
