"""What was wrong with the input, in sentences: nothing is dropped silently."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["note", "dropped", "error"]
"""note: the rows are kept. dropped: the rows are left out. error: the table cannot be used."""

_ORDER: dict[Severity, int] = {"note": 0, "dropped": 1, "error": 2}


class InputError(ValueError):
    """The input cannot be used as it is; the message is one sentence for its author."""


class InputWarning(UserWarning):
    """Something in the input looks odd, and nothing was left out because of it."""


@dataclass(frozen=True)
class Problem:
    """One kind of problem in one table.

    Attributes
    ----------
    sentence : str
        The whole message, with the count and the example in it.
    count : int
        How many rows (or columns) have the problem.
    example : object
        One of them.
    severity : {"note", "dropped", "error"}
        Rows kept, rows left out, or table not usable.
    """

    sentence: str
    count: int
    example: Any
    severity: Severity = "dropped"


@dataclass
class Report:
    """The problems found so far.

    Hand a ``Report()`` to a reader to go on without the rows that cannot be used and to read
    afterwards what they were. Without one the reader is strict: the first such problem raises
    InputError. A table that cannot be used at all raises in both cases.

    Attributes
    ----------
    strict : bool
        Raise when rows would be left out, warn when odd rows are kept.
    problems : list of Problem
        In the order in which they were found.
    """

    strict: bool = False
    problems: list[Problem] = field(default_factory=list)

    def add(
        self, sentence: str, count: int, example: Any = None, *, severity: Severity = "dropped"
    ) -> None:
        """Record a problem.

        Parameters
        ----------
        sentence : str
            The whole message.
        count : int
            How many rows (or columns) have it.
        example : object
            One of them.
        severity : {"note", "dropped", "error"}
            Rows kept, rows left out, or table not usable.

        Raises
        ------
        InputError
            The table is not usable, or rows would be left out and this report is strict.
        """
        problem = Problem(sentence, count, example, severity)
        self.problems.append(problem)
        hint = "" if severity == "error" else " if report=Report() is given"
        if severity == "error" or (self.strict and severity == "dropped"):
            raise InputError(sentence + hint)
        if self.strict:
            warnings.warn(sentence, InputWarning, stacklevel=7)  # the caller of from_table

    def raise_if(self, severity: Severity = "dropped") -> None:
        """Raise InputError with every sentence that is at least as severe as ``severity``."""
        found = [p.sentence for p in self.problems if _ORDER[p.severity] >= _ORDER[severity]]
        if found:
            raise InputError("\n".join(found))

    def __len__(self) -> int:
        return len(self.problems)

    def __str__(self) -> str:
        return "\n".join(problem.sentence for problem in self.problems) or "no problems"
