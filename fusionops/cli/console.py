"""Where things are printed: results on stdout, everything about the work on stderr."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fusionops.data.report import InputWarning, Report

WIDTH = 110
"""Columns where the output is no terminal, so that tables in files are not folded at 80."""

Step = Callable[[str], None]
"""Called with what begins now; each call is one step of the progress bar."""


Count = Callable[[str, int, int], None]
"""Called with what is counted, how many of it are done, and how many there are."""


def stdout() -> Console:
    """The console of results."""
    console = Console(file=sys.stdout, highlight=False)
    return (
        console if console.is_terminal else Console(file=sys.stdout, width=WIDTH, highlight=False)
    )


def stderr() -> Console:
    """The console of progress, warnings and errors."""
    return Console(file=sys.stderr, highlight=False)


def print_json(value: dict[str, Any]) -> None:
    """Print exactly one JSON object on stdout; numbers that are not finite become null."""
    sys.stdout.write(json.dumps(finite(value), allow_nan=False, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """The value with null for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_warnings(problems: Iterable[str]) -> None:
    """Print each problem of the input as a line on stderr."""
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)


@contextmanager
def collected_warnings(report: Report) -> Iterator[None]:
    """Add what the library warns about its input to a report, in place of Python's format."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, InputWarning):
            report.add(str(warning.message), 1, severity="note")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@contextmanager
def progress(total: int) -> Iterator[Step]:
    """A progress bar on stderr, or a line a step where stderr is no terminal."""
    console = stderr()
    if not console.is_terminal:
        done = 0

        def line(text: str) -> None:
            nonlocal done
            done += 1
            print(f"[{done}/{total}] {text}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = False

        def step(text: str) -> None:
            nonlocal begun
            bar.update(task, description=text, advance=1 if begun else 0)
            begun = True

        yield step
        bar.update(task, completed=total)


@contextmanager
def counting() -> Iterator[Count]:
    """A bar on stderr for each thing counted, or a line a tenth where stderr is no terminal."""
    console = stderr()
    if not console.is_terminal:
        tenths: dict[str, int] = {}

        def line(what: str, done: int, total: int) -> None:
            tenth = 10 * done // max(total, 1)
            if tenths.get(what) != tenth:
                tenths[what] = tenth
                print(f"[{done:,}/{total:,}] {what}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def count(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield count


def only_results_on_stdout() -> AbstractContextManager[Any]:
    """Sends what libraries print, such as the log of a training, to where progress goes."""
    return redirect_stdout(sys.stderr)
