"""Which columns and modalities enter the kernel, and with which weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusionops.data.encoded import Encoded
from fusionops.data.items import Items
from fusionops.models.linear_fusion.content import blocks, modality
from fusionops.models.linear_fusion.content.blocks import Block, documents_of
from fusionops.models.linear_fusion.content.modality import Modality
from fusionops.models.linear_fusion.content.numeric import NumericColumn


@dataclass(frozen=True)
class Choice:
    """What was asked for, checked against the items.

    Attributes
    ----------
    columns : tuple of str
        Text and categorical.
    numeric : dict of str to (str or None, float or None)
        The form and scale of each numeric column, None where its values are to decide.
    weights : mapping of str to float
        Of terms; those that are not in it have their defaults.
    """

    columns: tuple[str, ...]
    numeric: dict[str, tuple[str | None, float | None]]
    weights: Mapping[str, float]

    @classmethod
    def of(
        cls,
        items: Items,
        columns: Sequence[str] | None,
        modalities: Sequence[str],
        numeric: Mapping[str, tuple[str, float | None]] | None,
        weights: Mapping[str, float] | None,
    ) -> Choice:
        """Check names.

        Raises
        ------
        ValueError
            A name is that of no column or term, or of two terms.
        """
        numeric, weights = numeric or {}, weights or {}
        words = (*items.text, *items.categorical)
        every = (*words, *items.numeric)
        chosen = tuple(every if columns is None else columns)
        _check("content", chosen, "text, categorical or numeric columns of items", every)
        numbers = [name for name in chosen if name in items.numeric]
        _check("numeric", numeric, "numeric columns among the content", numbers)
        taken = {*blocks.WEIGHTS, *numbers}
        for name in modalities:
            if name in taken:
                raise ValueError(
                    f"features: expected names of modalities, got {name!r}, which is "
                    + ("a numeric column of items" if name in numbers else "a term of the text")
                )
        _check("weights", weights, "terms of the content", (*blocks.WEIGHTS, *numbers, *modalities))
        return cls(
            tuple(name for name in chosen if name in words),
            {name: numeric.get(name, (None, None)) for name in numbers},
            weights,
        )

    def blocks(self, items: Items) -> tuple[Block, ...]:
        """The TF-IDF blocks of the columns that there are."""
        kinds = ["char", "word"] if any(name in items.text for name in self.columns) else []
        if any(name in items.categorical for name in self.columns):
            kinds.append("category")
        return tuple(
            Block.fit(kind, weight, documents_of(kind, items, self.columns))
            for kind in kinds
            if (weight := self.weights.get(kind, blocks.WEIGHTS[kind])) > 0
        )

    def modalities(self, encoded: Mapping[str, Encoded]) -> tuple[Modality, ...]:
        """The modalities that some item has."""
        fitted = [
            Modality.fit(name, weight, one)
            for name, one in encoded.items()
            if (weight := self.weights.get(name, modality.WEIGHT)) > 0
        ]
        return tuple(one for one in fitted if one is not None)

    def numeric_columns(self, items: Items) -> tuple[NumericColumn, ...]:
        """The numeric columns that tell items apart."""
        fitted = [
            NumericColumn.fit(name, items.numeric[name], form, scale, self.weights.get(name))
            for name, (form, scale) in self.numeric.items()
            if self.weights.get(name) != 0
        ]
        return tuple(one for one in fitted if one is not None)


def _check(
    argument: str,
    names: Mapping[str, object] | Sequence[str],
    what: str,
    known: Sequence[str],
) -> None:
    for name in names:
        if name not in known:
            listed = ", ".join(map(repr, known)) or "none"
            raise ValueError(f"{argument}: expected {what} ({listed}), got {name!r}")
