"""Runs the suites of ``benchmarks/`` and writes what they measured as one report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from fusionops.cli import bench_report, console
from fusionops.cli.bench_report import Results
from fusionops.files import write_atomically

REPORT, GROWTH, SHARES, DATA = "report.md", "growth.png", "bounds.png", "results.json"


def run(
    suites: Path,
    names: list[str],
    out: Path,
    *,
    device: str = "cpu",
    short: bool,
    growth: bool,
    as_json: bool,
) -> None:
    """Measure, and write the report.

    Parameters
    ----------
    suites : Path
        The ``benchmarks`` folder of a source checkout.
    names : list of str
        Operators to measure; empty for all.
    out : Path
        Folder of ``report.md``, ``growth.png``, ``bounds.png`` and ``results.json``.
    device : {"cpu", "cuda"}
        Whose suites; those of a GPU know no growth.
    short : bool
        The smoke run of the suites.
    growth : bool
        Also time against size.
    as_json : bool
        Print the measurements as one JSON object.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"--device must be cpu or cuda, got '{device}'")
    files = _files(suites, names)
    options = ["--short"] if short else []
    if device == "cuda":
        options += ["-m", "gpu"]
    elif growth:
        options += ["--growth"]
    out.mkdir(parents=True, exist_ok=True)  # an --out that cannot be made is said at once
    results = _measure(files, options)
    said = [*(["--short"] if short else []), *([] if growth else ["--no-growth"])]
    said += ["--device cuda"] if device == "cuda" else []
    _write(results, out, " ".join(["fusionops bench", *names, *said]))
    if as_json:
        console.print_json(results.as_json())
    else:
        screen = console.stdout()
        screen.print(bench_report.terminal(results), "", markup=False, soft_wrap=True)
        screen.print(f"{out / REPORT} and its pictures written", markup=False, soft_wrap=True)


def _files(suites: Path, names: list[str]) -> list[Path]:
    known = {path.stem.removeprefix("bench_"): path for path in sorted(suites.glob("bench_*.py"))}
    if not known:
        raise ValueError(
            f"--suites must be the benchmarks folder of a source checkout of fusionops (the suites "
            f"are not part of the installed package), got '{suites}', which has no bench_*.py"
        )
    for name in names:
        if name not in known:
            raise ValueError(f"OPERATOR must be one of {', '.join(known)}, got '{name}'")
    return [known[name] for name in names] if names else list(known.values())


def _measure(files: list[Path], options: list[str]) -> Results:
    """Run pytest on the suites, in a process of its own: a fresh torch, nothing else loaded."""
    with tempfile.TemporaryDirectory(prefix="fusionops-bench-") as folder:
        data = Path(folder) / DATA
        command = [sys.executable, "-m", "pytest", *map(str, files), "-v"]
        command += ["--report", str(data), "-p", "no:cacheprovider", *options]
        # The command line lets waiting threads sleep; scripts of torch's users do not.
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        status = _run(command, environment)
        if not data.exists():
            raise ValueError(
                f"the suites ended with exit code {status} and without results; pytest said why"
            )
        if status != 0:
            raise ValueError(
                f"a suite failed (exit code {status}), so there is no report: pytest said why above"
            )
        return Results.from_json(json.loads(data.read_text(encoding="utf-8")))


def _run(command: list[str], environment: dict[str, str]) -> int:
    """The exit code; every line appears on stderr, as stdout is for results."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            sys.stderr.flush()
    return process.returncode


def _write(results: Results, out: Path, command: str) -> None:
    from fusionops.cli import bench_plots  # imports matplotlib

    pictures = []
    for caption, file, picture in (
        ("Time against size", GROWTH, bench_plots.growth(results)),
        ("Share of the bound", SHARES, bench_plots.shares(results)),
    ):
        if picture is not None:
            write_atomically(out / file, picture)
            pictures.append((caption, file))
    write_atomically(out / DATA, (json.dumps(results.as_json(), indent=2) + "\n").encode())
    # The report last: what it refers to is there when it appears.
    write_atomically(out / REPORT, bench_report.markdown(results, command, pictures).encode())
