"""Tables of known measurements."""

import dataclasses

import matplotlib.image
import pytest

from fusionops.cli import bench_plots, bench_report
from fusionops.cli.bench_report import Measurement, Operator, Results

MACHINE = {
    "processor": "a processor",
    "torch_threads": 2,
    "torch": "2.13.0",
    "native": {"isa": "avx2", "compiler": "GNU 12"},
    "fusionops": "0.1.0",
}
RATES = {
    "operations_per_second": {"float32": 200e9},
    "score_tile_operations_per_second": {"float32": {"64": 180e9}},
    "memory_bytes_per_second": {"read": 40e9, "write": 30e9},
}


def row(contender, items=1000, **values):
    return Measurement("op", [10, items, 64], "forward", contender, **values)


@pytest.fixture
def results():
    return Results(
        MACHINE,
        RATES,
        [Operator("op", "what it is", ["float32", "int8"], ["U", "P", "D"], "P")],
        [
            row("float32", median=0.002, minimum=0.001, bound=0.001, bound_by="memory"),
            row("int8", median=0.001, minimum=0.0009, bound=0.0002, bound_by="int8 arithmetic"),
            row("eager", median=0.008, minimum=0.007, peak_bytes=3 * 2**20),
            row("faiss", reason="it cannot be imported"),
            row("float32", median=0.002, growth=True),
            row("float32", 2000, median=0.005, growth=True),
            row("eager", 2000, median=0.01, growth=True),
        ],
    )


def test_ratios_share_and_memory(results):
    operator = results.operators[0]
    table = bench_report.comparison_table(operator, results.of(operator, growth=False))
    assert table.header[5:7] == ["/ float32", "/ int8"]
    float32, int8, eager = table.rows
    assert float32[:4] == ["10 x 1,000 x 64", "forward", "float32", "2.00"]
    assert float32[-2:] == ["50", "memory"]
    assert int8[:3] == ["", "", "int8"]
    assert int8[5:7] == ["0.50", "1.00"]
    assert eager[5:] == ["4.00", "8.00", "3.0", "-", ""]


def test_growth(results):
    operator = results.operators[0]
    table = bench_report.growth_table(operator, results.of(operator, growth=True))
    assert table.rows == [
        ["1,000", "2.00", "-", "-", "-"],
        ["2,000", "5.00", "10.00", "2.50", "-"],
    ]


def test_what_grows_and_what_does_not():
    operator = Operator("op", "what it is", ["ours"], ["B", "N", "M", "D"], "M")
    rows = [
        Measurement("op", [1_000, size, size, 64], "forward", "ours", median=size, growth=True)
        for size in (10, 20, 40)
    ]
    title = bench_report.growth_title(operator, rows)
    assert title == "Time against size, forward, B 1,000, N = M, D 64"
    table = bench_report.growth_table(operator, rows)
    assert table.header == ["M", "ours ms", "ours: time(M) / time(M/2)"]
    assert [line[0] for line in table.rows] == ["10", "20", "40"]


def test_what_is_missing_is_said(results):
    assert bench_report.gaps(results.measurements) == [
        "faiss: it cannot be imported (10 x 1,000 x 64)"
    ]


def test_both_forms_hold_all_parts(results):
    text = bench_report.terminal(results)
    report = bench_report.markdown(results, "fusionops bench", [("Growth", "growth.png")])
    for part in ("a processor", "avx2", "read 40.0 GB/s", "90 %", "it cannot be imported"):
        assert part in text
        assert part in report
    assert "![Growth](growth.png)" in report
    assert "| 10 x 1,000 x 64 | forward | float32 | 2.00 |" in report
    assert {line.count("|") for line in report.splitlines() if line.startswith("| P |")} == {6}


def test_json_there_and_back(results):
    assert Results.from_json(results.as_json()) == results


def test_pictures(results, tmp_path):
    for draw in (bench_plots.growth, bench_plots.shares):
        picture = draw(results)
        assert picture is not None
        (tmp_path / "one.png").write_bytes(picture)
        height, width, _ = matplotlib.image.imread(tmp_path / "one.png").shape
        assert height > 100
        assert width > 400
    nothing = dataclasses.replace(results, measurements=[])
    assert bench_plots.growth(nothing) is None
    assert bench_plots.shares(nothing) is None


def test_a_gpu_has_no_measured_rates(results):
    gpu = {"gpu": "a GPU", "torch": "2.13.0", "cuda": "13.0", "fusionops": "0.1.0"}
    found = dataclasses.replace(results, machine=gpu, rates={})
    for text in (bench_report.terminal(found), bench_report.markdown(found, "command", ())):
        assert "a GPU, torch 2.13.0, CUDA 13.0, fusionops 0.1.0." in text
        assert "Memory:" not in text
