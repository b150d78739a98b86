"""The table of users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fusionops.data.entities import Entities
from fusionops.data.report import Report


class Users(Entities):
    """The users with their text, numbers, categories and media paths."""

    @classmethod
    def from_table(
        cls,
        table: pa.Table | Mapping[str, Any],
        *,
        id: str = "user",
        text: Sequence[str] = (),
        numeric: Sequence[str] = (),
        categorical: Sequence[str] = (),
        media: Sequence[str] = (),
        report: Report | None = None,
    ) -> Users:
        """As :meth:`Entities.from_table`, with ``user`` as the column of ids."""
        return super().from_table(
            table,
            id=id,
            text=text,
            numeric=numeric,
            categorical=categorical,
            media=media,
            report=report,
        )
