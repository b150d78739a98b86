"""The command as a whole: help, imports, errors, info."""

import json
import subprocess
import sys

import pytest

from fusionops.cli.errors import sentence, sentences


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_help_imports_neither_torch_nor_the_data_libraries():
    code = """
import sys
sys.argv = ["fusionops", "--help"]
from fusionops.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {"torch", "numpy", "pyarrow", "scipy", "sklearn", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    result = python(code)
    assert result.returncode == 0, result.stderr
    for command in ("quickstart", "encode", "fit", "evaluate", "recommend", "bench", "info"):
        assert command in result.stdout


@pytest.mark.parametrize("library", ["typer", "rich", "pyarrow", "scipy", "sklearn"])
def test_a_missing_library_is_one_sentence(library, tmp_path):
    code = f"""
import sys
sys.modules[{library!r}] = None
sys.argv = ["fusionops", "fit", "--interactions", "x.csv", "--out", {str(tmp_path / "m")!r}]
from fusionops.cli import main
main()
"""
    result = python(code)
    assert result.returncode == 2
    expected = f'error: the library {library} is not installed: pip install "fusionops[rec]"\n'
    assert result.stderr == expected
    assert result.stdout == ""


def test_a_missing_library_of_encoders_is_one_sentence(capsys):
    with pytest.raises(SystemExit), sentences():
        raise ModuleNotFoundError("No module named 'timm'", name="timm.data")
    expected = 'error: the library timm is not installed: pip install "fusionops[encoders]"\n'
    assert capsys.readouterr().err == expected


def test_info(run):
    result = run("info")
    assert result.code == 0
    assert "fusion_topk" in result.out
    found = json.loads(run("info", "--json").out)
    assert found["fusionops"]
    assert found["torch"]


def test_sentences_keep_to_one_line(capsys, monkeypatch):
    monkeypatch.delenv("FUSIONOPS_DEBUG", raising=False)
    with pytest.raises(SystemExit) as stopped, sentences():
        raise ValueError("first\n  second")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: first second\n"
    assert sentence(KeyError("no 'x' here")) == "no 'x' here"
    assert sentence(PermissionError(13, "Permission denied", "/root/x")) == (
        "/root/x: Permission denied"
    )


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("FUSIONOPS_DEBUG", "1")
    with pytest.raises(ValueError, match="seen"), sentences():
        raise ValueError("seen")


def test_other_errors_are_ours_and_are_not_hidden():
    with pytest.raises(AssertionError), sentences():
        raise AssertionError
