"""The command on a suite of the checkout, and what it says when it cannot run."""

import json
from pathlib import Path

import pytest

SUITES = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def measured(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "report"
    options = ["--suites", SUITES, "--out", out, "--short", "--json"]
    result = run("bench", "fusion_recommend", *options)
    assert result.code == 0, result.err
    return json.loads(result.out), out


def test_the_report_is_written_whole(measured):
    found, out = measured
    assert sorted(path.name for path in out.iterdir()) == [
        "bounds.png", "growth.png", "report.md", "results.json",
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text()) == found
    report = (out / "report.md").read_text()
    assert "`fusionops bench fusion_recommend --short`" in report
    assert "| 256 x 10,000 x 64 | forward | fusionops |" in report
    assert "time(P) / time(P/2)" in report


def test_everyone_was_measured(measured):
    found, _ = measured
    timed = {row["contender"] for row in found["measurements"] if row["median"] is not None}
    assert timed == {"fusionops", "eager", "by hand"}
    ours = [row for row in found["measurements"] if row["contender"] == "fusionops"]
    assert all(row["bound"] > 0 for row in ours)
    sizes = [row["shape"][1] for row in ours if row["growth"]]
    assert sizes == [sizes[0], 2 * sizes[0]]
    peaks = found["rates"]["operations_per_second"]
    assert set(peaks) == {"float64", "float32", "bfloat16", "int8"}


def test_without_growth(run, tmp_path):
    options = ["--suites", SUITES, "--out", tmp_path, "--short", "--no-growth"]
    assert run("bench", "mmr_rerank", *options).code == 0
    report = (tmp_path / "report.md").read_text()
    assert "`fusionops bench mmr_rerank --short --no-growth`" in report
    assert "time(" not in report
    assert not (tmp_path / "growth.png").exists()


def test_an_unknown_device(run, tmp_path):
    result = run("bench", "--device", "tpu", "--suites", SUITES, "--out", tmp_path / "out")
    assert result.code == 2
    assert "--device must be cpu or cuda, got 'tpu'" in result.err


def test_a_folder_without_suites(run, tmp_path):
    result = run("bench", "--suites", tmp_path, "--out", tmp_path / "out")
    assert result.code == 2
    assert "--suites must be the benchmarks folder of a source checkout" in result.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_operator(run, tmp_path):
    result = run("bench", "softmax", "--suites", SUITES, "--out", tmp_path / "out")
    assert result.code == 2
    assert "OPERATOR must be one of" in result.err
    assert "got 'softmax'" in result.err


def test_a_suite_that_fails_leaves_no_report(run, tmp_path):
    (tmp_path / "bench_broken.py").write_text("def test_it():\n    assert False\n")
    out = tmp_path / "out"
    result = run("bench", "--suites", tmp_path, "--out", out)
    assert result.code == 2
    assert "the suites ended with exit code" in result.err
    assert list(out.iterdir()) == []
