"""What is asked of a saved model on the command line, as typed and in the model's terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusionops.cli.options import assignments, number
from fusionops.data import IdMap, Items

if TYPE_CHECKING:
    from fusionops.models.interface.recommender import Recommender


@dataclass(frozen=True)
class Request:
    """The options that ``recommend`` and ``explain`` share, as they were typed."""

    users: Sequence[str] = ()
    history: Sequence[str] = ()
    k: int = 10
    exclude: Sequence[str] = ()
    candidates: Sequence[str] = ()
    filters: Sequence[str] = ()
    recency: str = "auto"
    at: str | None = None
    diversify: float = 0.0
    exclude_seen: bool = True

    def check(self, command: str) -> None:
        """ValueError unless users or a history were given, one of the two."""
        if bool(self.users) == bool(self.history):
            raise ValueError(f"{command} needs --user ID or --history ITEM, one of the two")

    def limits(self, model: Recommender) -> dict[str, Any]:
        """The keywords of the model's methods that say what may be listed, and recency.

        Raises
        ------
        ValueError, LookupError
            An item or column that the model does not know.
        """
        items = model.items.ids
        return {
            "exclude_seen": self.exclude_seen,
            "exclude": known_ids("--exclude", self.exclude, items) or None,
            "candidates": known_ids("--candidate", self.candidates, items) or None,
            "item_filter": where(self.filters, model.items) or None,
            "recency": None if self.recency == "none" else self.recency,
        }


def where(filters: Sequence[str], items: Items) -> dict[str, Any]:
    """Conditions of ``COLUMN=VALUE``: numbers also ``LOW..HIGH``, a column twice means either.

    Raises
    ------
    ValueError
        A column that the items do not have, or no number for a column of numbers.
    """
    found: dict[str, Any] = {}
    for name, text in assignments("--filter", filters):
        if name not in items.columns:
            have = ", ".join(items.columns) or "none"
            raise ValueError(f"--filter: there is no item column {name!r}; the columns are {have}")
        if name not in items.numeric:
            found.setdefault(name, []).append(text)
            continue
        condition = _numeric_condition(name, text)
        if isinstance(condition, float) and not isinstance(found.get(name), slice):
            found.setdefault(name, []).append(condition)
        elif name not in found:
            found[name] = condition
        else:
            raise ValueError(f"--filter {name}: a range cannot be given beside another condition")
    return found


def _numeric_condition(name: str, text: str) -> float | slice:
    """``5``, or ``3..5``, ``3..`` and ``..5`` with both ends in."""
    option = f"--filter {name}"
    if ".." not in text:
        return number(option, text)
    low, _, high = text.partition("..")
    return slice(*(number(option, end) if end else None for end in (low, high)))


def known_ids(option: str, texts: Sequence[str], ids: IdMap) -> list[Any]:
    """Typed ids in the kind of the model's ids."""
    found: list[Any] = []
    for text in texts:
        value: Any = text
        if ids.ids.dtype.kind in "iu":
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{option}: ids are integers, got {text!r}") from None
        if value not in ids:
            hint = "; for someone new give --history ITEM" if option == "--user" else ""
            raise ValueError(f"{option}: the model does not know {text!r}{hint}")
        found.append(value)
    return found
