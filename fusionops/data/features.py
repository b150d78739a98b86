"""Columns of items or users to a matrix: cleaned, normalised, selected, by scikit-learn."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from fusionops.data.entities import Entities

Scaling = Literal["standard", "robust", "minmax", "quantile", "none"]
Fitted = TypeVar("Fitted", bound="Features")

_SPACES = re.compile(r"\s+")


def clean_text(texts: Sequence[str | None], *, lower: bool = True) -> list[str | None]:
    """Normalise text: Unicode NFKC, no control characters, single spaces, lower case.

    Parameters
    ----------
    texts : sequence of str or None
        Missing ones stay missing, and blank ones become missing.
    lower : bool
        Fold the case.
    """
    return [None if text is None else _clean(text, lower) or None for text in texts]


@dataclass(frozen=True)
class Left:
    """A feature that was left out, and why."""

    name: str
    reason: str


class Features:
    """Numeric and categorical columns to one sparse matrix.

    Numbers are imputed by the median, with a column that says where they were missing, and scaled.
    Categories become one column each. Then constant and uninformative columns are left out.

    Parameters
    ----------
    scaling : {"standard", "robust", "minmax", "quantile", "none"}
        Of the numbers: mean 0 and deviation 1; median 0 and quartile range 1, for heavy tails;
        into [0, 1]; to ranks in [0, 1]; or as they are.
    min_count : int
        Categories with fewer rows share one column.
    min_variance : float
        Features whose variance is not above this are left out.
    max_features : int, optional
        Keep this many, those with the largest mutual information with the target of ``fit``.
    seed : int
        Of the nearest-neighbour estimate of mutual information.

    Attributes
    ----------
    names : list of str
        The features kept, in the order of the columns.
    left_out : list of Left
        The features left out, with the reason: nothing goes silently.
    information : dict of str to float
        Mutual information with the target in nats, where it was computed.
    """

    def __init__(
        self,
        *,
        scaling: Scaling = "standard",
        min_count: int = 1,
        min_variance: float = 0.0,
        max_features: int | None = None,
        seed: int = 0,
    ) -> None:
        if scaling not in ("standard", "robust", "minmax", "quantile", "none"):
            raise ValueError(
                "scaling must be 'standard', 'robust', 'minmax', 'quantile' or 'none', "
                f"got {scaling!r}"
            )
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {min_count}")
        if min_variance < 0:
            raise ValueError(f"min_variance must be at least 0, got {min_variance}")
        if max_features is not None and max_features < 1:
            raise ValueError(f"max_features must be at least 1, got {max_features}")
        self.scaling = scaling
        self.min_count = min_count
        self.min_variance = min_variance
        self.max_features = max_features
        self.seed = seed
        self.names: list[str] = []
        self.left_out: list[Left] = []
        self.information: dict[str, float] = {}

    def fit(self: Fitted, entities: Entities, target: npt.ArrayLike | None = None) -> Fitted:
        """Learn medians, scales and categories, and choose the features.

        Parameters
        ----------
        entities : Items or Users
            With numeric or categorical columns.
        target : array-like, optional
            Shape ``[n]``, for ``max_features``: numbers (such as how often an item sells; rows
            with NaN do not count) or classes, as integers, bools or strings.

        Raises
        ------
        ValueError
            There is no row, ``max_features`` lacks its target, or the target has another length.
        """
        if len(entities) == 0:
            raise ValueError("entities must have a row to fit features on, got none")
        if self.max_features is not None and target is None:
            raise ValueError("max_features needs a target to choose the features by, got none")
        self.left_out, self.information = [], {}
        self._numeric = list(entities.numeric)
        self._categorical = list(entities.categorical)
        self._fit_numeric(_numbers(entities, self._numeric))
        self._fit_categorical(_categories(entities, self._categorical))
        whole = self._whole(entities)
        kept = self._by_variance(whole)
        if target is not None:
            kept = self._by_information(whole, kept, np.asarray(target))
        self._kept = kept
        self.names = [self._all_names[column] for column in kept]
        return self

    def transform(self, entities: Entities) -> sparse.csr_array:
        """Return the features of the rows, ``float32`` ``[n, len(names)]``.

        A category that was not there in ``fit`` counts as a rare one, or as none.
        """
        if not hasattr(self, "_kept"):
            raise ValueError("features must be fitted before they can transform")
        return self._whole(entities)[:, self._kept]

    # Inside

    def _fit_numeric(self, numbers: npt.NDArray[np.float64]) -> None:
        self._all_names = list(self._numeric)
        if not self._numeric:
            return
        self._imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(numbers)
        self._missing = MissingIndicator(features="missing-only").fit(numbers)
        self._scaler = _scaler(self.scaling, len(numbers), self.seed)
        if self._scaler is not None:
            self._scaler.fit(self._imputer.transform(numbers))
        self._all_names += [f"{self._numeric[i]} is missing" for i in self._missing.features_]

    def _fit_categorical(self, categories: npt.NDArray[np.object_]) -> None:
        if not self._categorical:
            return
        self._encoder = OneHotEncoder(
            min_frequency=self.min_count if self.min_count > 1 else None,
            handle_unknown="infrequent_if_exist",
            dtype=np.float32,
        ).fit(categories)
        self._all_names += [
            f"{column} = {value}"
            for column, values in zip(self._categorical, self._encoder_values(), strict=True)
            for value in values
        ]

    def _encoder_values(self) -> list[list[str]]:
        """Return the value of each one-hot column: the frequent categories, then the rare ones."""
        values = []
        rare_of = getattr(self._encoder, "infrequent_categories_", [None] * len(self._categorical))
        for categories, rare in zip(self._encoder.categories_, rare_of, strict=True):
            few = set() if rare is None else set(rare)
            frequent = ["missing" if c == _MISSING else str(c) for c in categories if c not in few]
            values.append(frequent + (["rare"] if few else []))
        return values

    def _whole(self, entities: Entities) -> sparse.csr_array:
        """Return all features, before selection."""
        parts: list[Any] = [sparse.csr_array((len(entities), 0), dtype=np.float32)]
        if self._numeric:
            numbers = _numbers(entities, self._numeric)
            filled = self._imputer.transform(numbers)
            parts.append(filled if self._scaler is None else self._scaler.transform(filled))
            parts.append(self._missing.transform(numbers))
        if self._categorical:
            parts.append(self._encoder.transform(_categories(entities, self._categorical)))
        return sparse.csr_array(
            sparse.hstack(
                [sparse.csr_array(part, dtype=np.float32) for part in parts], format="csr"
            )
        )

    def _by_variance(self, whole: sparse.csr_array) -> npt.NDArray[np.int64]:
        if whole.shape[1] == 0:
            return np.empty(0, dtype=np.int64)
        variance = StandardScaler(with_mean=False).fit(whole.astype(np.float64)).var_
        # The mean of equal numbers may miss them by a rounding; that is not variance.
        constant = whole.max(axis=0).toarray().ravel() == whole.min(axis=0).toarray().ravel()
        low = (variance <= self.min_variance) | constant
        for column in np.flatnonzero(low):
            reason = "constant" if constant[column] else f"variance {variance[column]:.3g}"
            self.left_out.append(Left(self._all_names[column], reason))
        return np.flatnonzero(~low)

    def _by_information(
        self, whole: sparse.csr_array, kept: npt.NDArray[np.int64], target: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        if target.shape != (whole.shape[0],):
            raise ValueError(f"target must have shape [{whole.shape[0]}], got {list(target.shape)}")
        if len(kept) == 0:
            return kept
        continuous = target.dtype.kind == "f"
        rows = np.isfinite(target) if continuous else np.ones(len(target), dtype=bool)
        if rows.sum() < 2:
            raise ValueError(f"target must have two rows or more, got {int(rows.sum())}")
        estimate = mutual_info_regression if continuous else mutual_info_classif
        information = estimate(
            whole[rows][:, kept].toarray(),
            target[rows],
            discrete_features=kept >= len(self._numeric),
            random_state=self.seed,
        )
        self.information = {
            self._all_names[column]: float(value)
            for column, value in zip(kept, information, strict=True)
        }
        if self.max_features is None or len(kept) <= self.max_features:
            return kept
        order = np.argsort(-information, kind="stable")
        for column in kept[np.sort(order[self.max_features :])]:
            name = self._all_names[column]
            reason = f"mutual information {self.information[name]:.3g}"
            self.left_out.append(Left(name, reason))
        return np.asarray(kept[np.sort(order[: self.max_features])])


_MISSING = "\0missing"  # no text in a table holds a NUL


def _numbers(entities: Entities, names: Sequence[str]) -> npt.NDArray[np.float64]:
    columns = [entities.numeric[name] for name in names]
    return np.column_stack(columns) if columns else np.empty((len(entities), 0))


def _categories(entities: Entities, names: Sequence[str]) -> npt.NDArray[np.object_]:
    table = np.empty((len(entities), len(names)), dtype=object)
    for column, name in enumerate(names):
        table[:, column] = [_MISSING if v is None else str(v) for v in entities.categorical[name]]
    return table


def _scaler(scaling: Scaling, n_rows: int, seed: int) -> Any:
    if scaling == "standard":
        return StandardScaler()
    if scaling == "robust":
        return RobustScaler()
    if scaling == "minmax":
        return MinMaxScaler(clip=True)
    if scaling == "quantile":
        return QuantileTransformer(n_quantiles=min(1000, n_rows), random_state=seed)
    return None


def _clean(text: str, lower: bool) -> str:
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c if c.isspace() or unicodedata.category(c)[0] != "C" else "" for c in text)
    text = _SPACES.sub(" ", text).strip()
    return text.casefold() if lower else text
