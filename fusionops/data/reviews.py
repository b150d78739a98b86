"""What users wrote about items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fusionops.data.ids import Codes, IdMap
from fusionops.data.reader import Reader
from fusionops.data.report import Report


@dataclass(frozen=True)
class Reviews:
    """Reviews as columns of equal length.

    Attributes
    ----------
    user, item : numpy.ndarray
        ``int64`` codes, shape ``[n]``, into ``users`` and ``items``.
    users, items : IdMap
        The users and the catalogue.
    text : list of str or None
        What was written, None where nothing was.
    rating : numpy.ndarray
        ``float64``, shape ``[n]``, NaN where missing.
    """

    user: Codes
    item: Codes
    users: IdMap
    items: IdMap
    text: list[str | None]
    rating: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("item", "text", "rating"):
            length = len(getattr(self, name))
            if length != len(self.user):
                raise ValueError(
                    f"{name} must have the length of user, {len(self.user)}, got {length}"
                )

    @classmethod
    def from_table(
        cls,
        table: pa.Table | Mapping[str, Any],
        *,
        user: str = "user",
        item: str = "item",
        text: str | None = "text",
        rating: str | None = "rating",
        users: IdMap | None = None,
        items: IdMap | None = None,
        report: Report | None = None,
    ) -> Reviews:
        """Make reviews from named columns of a table, in the order of its rows.

        Parameters
        ----------
        table : pyarrow.Table or mapping of columns
            What was read.
        user, item, text, rating : str
            Names of the columns; ``None`` for a text or a rating that the table does not have.
        users, items : IdMap, optional
            Known ids; rows with others are problems. By default the ids of the table, sorted.
        report : Report, optional
            Collects the problems, and their rows are left out. Without it they raise.

        Raises
        ------
        InputError
            A column is missing, the table is empty, or, without ``report``, a row cannot be used.
        """
        reader = Reader(table, "reviews", Report(strict=True) if report is None else report)
        reader.require(user, item, *(name for name in (text, rating) if name is not None))
        reader.ids(user, "user", users)
        reader.ids(item, "item", items)
        if rating is not None:
            reader.optional_numbers(rating)
        reader.duplicates_noted([name for name in (user, item, text, rating) if name is not None])
        reader.require_rows()
        users = IdMap.from_values(reader.column(user)) if users is None else users
        items = IdMap.from_values(reader.column(item)) if items is None else items
        n = reader.table.num_rows
        return cls(
            user=users.encode(reader.column(user)),
            item=items.encode(reader.column(item)),
            users=users,
            items=items,
            text=[None] * n if text is None else reader.texts(text),
            rating=np.full(n, np.nan) if rating is None else reader.numpy(rating),
        )

    def text_of_items(self) -> list[str | None]:
        """Return the reviews of each item joined by line ends, None for an item without one."""
        texts: list[list[str]] = [[] for _ in range(len(self.items))]
        for item, text in zip(self.item.tolist(), self.text, strict=True):
            if text is not None:
                texts[item].append(text)
        return ["\n".join(parts) or None for parts in texts]

    def mean_rating_of_items(self) -> npt.NDArray[np.float64]:
        """Return the mean rating of each item, ``[n_items]``, NaN for an item without one."""
        rated = np.isfinite(self.rating)
        n = len(self.items)
        total = np.bincount(self.item[rated], weights=self.rating[rated], minlength=n)
        count = np.bincount(self.item[rated], minlength=n)
        mean: npt.NDArray[np.float64] = np.full(n, np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        return mean

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return f"Reviews({len(self)} rows, {len(self.users)} users, {len(self.items)} items)"
