"""What the build says when it can't go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "setup.py"


@pytest.mark.skipif(not SETUP.exists(), reason="runs in a source folder")
def test_a_missing_compiler_is_one_sentence(tmp_path):
    pytest.importorskip("setuptools")
    result = subprocess.run(
        [sys.executable, str(SETUP), "build_ext", "--build-lib", str(tmp_path)],
        cwd=SETUP.parent,
        env={**os.environ, "CXX": "/nowhere/c++"},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert (
        result.stderr.strip()
        .splitlines()[-1]
        .startswith(
            "fusionops needs a C++20 compiler to build and found none (looked for /nowhere/c++)"
        )
    )
    assert list(tmp_path.iterdir()) == []


def test_a_source_folder_that_was_not_built_says_so(run_python, tmp_path):
    source = Path(__file__).parents[2] / "fusionops" / "__init__.py"
    if not source.exists():
        pytest.skip("runs in a source folder")
    (tmp_path / "fusionops").mkdir()
    (tmp_path / "fusionops" / "__init__.py").write_text(source.read_text())
    code = """
        import sys
        # An editable install answers for the package before sys.path does.
        sys.meta_path = [f for f in sys.meta_path if not f.__module__.startswith("__editable__")]
        try:
            from fusionops import _native
        except ImportError as error:
            print(error)
    """
    said = run_python(code, PYTHONPATH=str(tmp_path), PYTHONSAFEPATH="1")
    assert said.startswith("fusionops was not built in")
    assert "pip install" in said
