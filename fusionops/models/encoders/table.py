"""Columns of a table to one vector a row: numbers, categories, and what is missing as missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionops.data.entities import Entities

_MISSING, _UNKNOWN, _FIRST = 0, 1, 2
"""Rows of a column's embedding: no value; a value that was not there, or too rare; the values."""


class TableEncoder(nn.Module):
    r"""One vector of the numeric and categorical columns of a row.

    Each column gives a vector, whose sum goes through one hidden layer, as a column can matter only
    beside another.

    Parameters
    ----------
    columns : mapping
        What :meth:`columns_of` learned, as it is or from JSON.
    dim : int
        D.
    dropout : float
        Between the layers.

    Attributes
    ----------
    widths : tuple of int
        The number of numeric and of categorical columns.
    columns : dict
        As given: what to make the same encoder from again, before its ``state_dict`` is loaded.

    Raises
    ------
    ValueError
        There is no column, or `columns` is something else.

    Notes
    -----
    .. math::
        x = \sum_j [\text{known}] \left(\frac{z_j - \mu_j}{\sigma_j} w_j + b_j\right)
            + [\text{missing}] m_j + \sum_k e_{k, c_k}

        y = \operatorname{norm}(x + V \operatorname{gelu}(U \operatorname{norm}(x)))

    with vectors :math:`w, b, m` of each number, as the tokens of Gorishniy et al. (2021),
    "Revisiting deep learning models for tabular data", and a vector :math:`e` of each category, of
    an unknown one and of a missing one. An unknown category says nothing at first: its vector is 0
    until rare ones of training (see `min_count`) teach it.

    Examples
    --------
    >>> from fusionops.data import Items
    >>> items = Items.from_table(
    ...     {"item": ["a", "b"], "price": [1.0, None], "kind": ["mug", None]},
    ...     numeric=["price"], categorical=["kind"],
    ... )
    >>> table = TableEncoder(TableEncoder.columns_of(items), 8)
    >>> vectors, present = table(*table.rows_of(items))
    >>> vectors.shape, present
    (torch.Size([2, 8]), tensor([ True, False]))
    """

    first: Tensor

    def __init__(self, columns: Mapping[str, Any], dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.numeric, self.categorical = _checked(columns)
        self.dim = dim
        sizes = [_FIRST + len(values) for values in self.categorical.values()]
        # One table serves all columns; this is where each begins.
        self.register_buffer("first", torch.tensor([0, *sizes]).cumsum(0)[:-1])
        self.slope, self.known, self.missing = (
            nn.Parameter(torch.empty(len(self.numeric), dim)) for _ in range(3)
        )
        self.categories = nn.Parameter(torch.empty(sum(sizes), dim))
        self.hidden = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, 2 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, dim),
        )
        self.norm = nn.LayerNorm(dim)
        self.reset_parameters()

    @property
    def widths(self) -> tuple[int, int]:
        """The number of numeric and of categorical columns."""
        return len(self.numeric), len(self.categorical)

    def reset_parameters(self) -> None:
        """Set the parameters to random numbers; rows have a length of about 1 at first."""
        for parameter in (self.slope, self.known, self.missing, self.categories):
            nn.init.normal_(parameter, std=self.dim**-0.5)
        with torch.no_grad():
            self.categories[self.first + _UNKNOWN] = 0
        nn.init.constant_(self.norm.weight, self.dim**-0.5)
        nn.init.zeros_(self.norm.bias)

    @property
    def columns(self) -> dict[str, Any]:
        """What this encoder was made from, for JSON."""
        return {"numeric": dict(self.numeric), "categorical": dict(self.categorical)}

    @staticmethod
    def columns_of(entities: Entities, *, min_count: int = 1) -> dict[str, Any]:
        """What is to be known of the columns of a table before rows can be encoded.

        Parameters
        ----------
        entities : Items or Users
            Its numeric and categorical columns are taken, those without any value too.
        min_count : int
            Categories with fewer rows count as unknown.

        Returns
        -------
        dict
            For JSON. ``numeric``: mean and deviation of the known numbers by column;
            ``categorical``: the categories by column.
        """
        if isinstance(min_count, bool) or not isinstance(min_count, int) or min_count < 1:
            raise ValueError(f"min_count: expected an integer of at least 1, got {min_count!r}")
        numeric = {name: _statistics(column) for name, column in entities.numeric.items()}
        categorical = {}
        for name, column in entities.categorical.items():
            known = [value for value in column if value is not None]
            values, counts = np.unique(np.asarray(known, dtype=np.str_), return_counts=True)
            categorical[name] = values[counts >= min_count].tolist()
        return {"numeric": numeric, "categorical": categorical}

    def rows_of(self, entities: Entities) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` takes of the rows of a table.

        Parameters
        ----------
        entities : Items or Users
            With the columns that this encoder knows; others are not looked at.

        Returns
        -------
        numeric : Tensor
            ``float32 [n, C]``, standardised, NaN where missing or not finite.
        categorical : Tensor
            ``int64 [n, K]``, codes of :meth:`forward`.

        Raises
        ------
        ValueError
            A column is not there.
        """
        numbers = np.empty((len(entities), len(self.numeric)), np.float64)
        for place, name in enumerate(self.numeric):
            numbers[:, place] = _column(entities.numeric, name, "numeric")
        numbers[~np.isfinite(numbers)] = np.nan
        # Before rounding to float32: the deviation of times is small beside their mean.
        mean, deviation = np.array(list(self.numeric.values())).reshape(-1, 2).T
        codes = np.empty((len(entities), len(self.categorical)), np.int64)
        for place, (name, values) in enumerate(self.categorical.items()):
            code = {value: _FIRST + i for i, value in enumerate(values)}
            column = _column(entities.categorical, name, "categorical")
            codes[:, place] = [
                _MISSING if value is None else code.get(str(value), _UNKNOWN) for value in column
            ]
        standardised = ((numbers - mean) / deviation).astype(np.float32)
        return torch.from_numpy(standardised), torch.from_numpy(codes)

    def present(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Where any column has a value, bool ``[n]``; an unknown category is one."""
        return ~numeric.isnan().all(1) | (categorical != _MISSING).any(1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of rows.

        Parameters
        ----------
        numeric : Tensor
            ``[n, C]``, standardised, NaN where missing; see :meth:`rows_of`.
        categorical : Tensor
            ``int64 [n, K]``: 0 where missing, 1 for an unknown category, then the categories.

        Returns
        -------
        vectors : Tensor
            ``[n, D]``, zeros where absent.
        present : Tensor
            Bool ``[n]``, False where every column is missing.
        """
        dtype = self.slope.dtype
        known = ~numeric.isnan()
        filled = torch.where(known, numeric, 0).to(dtype)
        total = (
            filled @ self.slope + known.to(dtype) @ self.known + (~known).to(dtype) @ self.missing
        )
        if self.categorical:
            total = total + functional.embedding_bag(
                categorical + self.first, self.categories, mode="sum"
            )
        present = self.present(numeric, categorical)
        vectors = self.norm(total + self.hidden(total))
        return torch.where(present[:, None], vectors, 0), present

    def extra_repr(self) -> str:
        """The sizes, for ``repr``."""
        return f"{len(self.numeric)} numeric, {len(self.categorical)} categorical, dim={self.dim}"


def _statistics(column: npt.NDArray[np.float64]) -> list[float]:
    """Mean and deviation of the known numbers; 1 where they do not differ."""
    known = column[np.isfinite(column)]
    if len(known) == 0:
        return [0.0, 1.0]
    mean = float(known.mean())
    deviation = float(np.sqrt(np.mean((known - mean) ** 2)))
    # The mean of equal numbers may miss them by a rounding; that is no deviation.
    return [mean, deviation if deviation > 1e-12 * abs(mean) else 1.0]


def _column(columns: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in columns:
        listed = ", ".join(map(repr, columns)) or "none"
        raise ValueError(f"entities: expected a {kind} column {name!r}, got {listed}")
    return columns[name]


def _checked(columns: Any) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    if not isinstance(columns, Mapping) or set(columns) != {"numeric", "categorical"}:
        raise ValueError(
            f"columns: expected what columns_of gives, with 'numeric' and 'categorical', got "
            f"{columns!r}"
        )
    numeric = {name: [float(mean), float(sd)] for name, (mean, sd) in columns["numeric"].items()}
    categorical = {name: list(values) for name, values in columns["categorical"].items()}
    if not numeric and not categorical:
        raise ValueError("columns: expected a numeric or categorical column, got none")
    return numeric, categorical
