"""The trained model by the same commands as LinearFusion."""

import json

import pytest

pytest.importorskip("transformers")

SMALL = ["--model", "FusionRecommender", "--set", "dim=8", "--set", "num_heads=2"]
QUICK = ["--train", "max_steps=3", "--train", "use_cpu=true", "--train", "disable_tqdm=true"]


@pytest.fixture(scope="module")
def trained(shop, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    result = run("fit", *shop.files, "--out", out, *SMALL, "--set", "fusion=attention", *QUICK)
    assert result.code == 0, result.err
    assert "FusionRecommender of 60 users and 32 items" in result.out
    return out


def test_recommend_reads_either_kind_of_model(shop, run, trained):
    for folder in (trained, shop.model):
        result = run("recommend", folder, "--user", "u00", "-k", 3, "--json")
        assert result.code == 0, result.err
        assert len(json.loads(result.out)["recommendations"]) == 3


def test_training_starts_from_a_saved_linear_fusion(shop, run, tmp_path):
    start = ["--start", shop.model, "--set", "normalization=none"]
    result = run("fit", *shop.files, "--out", tmp_path / "m", *SMALL, *QUICK, *start, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["users"] == 60


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "EASE"], "--model must be one of LinearFusion, FusionRecommender, got 'EASE'"),
        (QUICK, "--train and --start need --model FusionRecommender"),
        ([*SMALL, "--set", "depth=3"], "--set knows dim, fusion"),
        (
            [*SMALL, "--train", "epochs=3"],
            "arguments: expected those of TrainingArguments, got 'epochs'",
        ),
        ([*SMALL, "--set", "fusion=sum"], "fusion: expected one of 'weighted', 'attention'"),
    ],
)
def test_errors(shop, run, tmp_path, options, sentence):
    result = run("fit", *shop.files, "--out", tmp_path / "m", *options)
    assert result.code == 2
    assert sentence in result.err.replace("\n", " ")
    assert not (tmp_path / "m").exists()
