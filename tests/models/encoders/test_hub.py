"""What is said where a model cannot be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fusionops.models.encoders import _hub, load_encoder


@pytest.fixture
def folder(text_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(text_models["bert"], tmp_path / "model"))


@pytest.mark.parametrize("model", ["/nowhere/model", "./model", Path("model"), "a/b/c"])
def test_no_such_folder(model):
    with pytest.raises(FileNotFoundError, match="expected a folder or a model id, got "):
        load_encoder("text", model)


def test_a_hub_out_of_reach(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="no local folder, and the Hugging Face hub") as caught:
        load_encoder("text", "nobody/no-such-model")
    sentence = str(caught.value)
    assert "hf download nobody/no-such-model --local-dir FOLDER" in sentence
    assert "\n" not in sentence


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ValueError, match="model: expected the configuration of a model in"):
        load_encoder("text", tmp_path)


def test_a_file_is_no_folder(folder):
    with pytest.raises(ValueError, match="expected a folder or a model id, got the file"):
        load_encoder("text", folder / "config.json")


def test_what_is_no_name(folder):
    with pytest.raises(TypeError, match="model: expected a model id or a path, got int"):
        load_encoder("text", 3)
    with pytest.raises(ValueError, match="modality: expected 'text', 'image' or 'audio', got 'x'"):
        load_encoder("x", folder)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "expected the weights of a model in"),
        (lambda f: _cut(f / "model.safetensors"), "expected the weights of a model in"),
        (lambda f: _cut(f / "config.json"), "expected the configuration of a model in"),
        (lambda f: _cut(f / "tokenizer.json"), "expected the tokenizer of a model in"),
    ],
)
def test_damaged_folders(folder, damage, sentence):
    damage(folder)
    with pytest.raises(ValueError, match=sentence) as caught:
        load_encoder("text", folder)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_never_random(folder):
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    kept = {name: value for name, value in tensors.items() if "layer.1.output" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"got a checkpoint without 4 of them, for example 'enc"):
        load_encoder("text", folder)
    # Except for those that are not used.
    save_file({n: v for n, v in tensors.items() if "pooler" not in n}, file, {"format": "pt"})
    assert load_encoder("text", folder).fingerprint() == load_encoder("text", folder).fingerprint()


def test_a_mask_that_only_pretraining_uses_may_be_missing(audio_models, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(audio_models["wav2vec2"], tmp_path / "model"))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors["masked_spec_embed"]
    save_file(tensors, file, {"format": "pt"})
    first, second = (load_encoder("audio", folder).fingerprint() for _ in range(2))
    assert first == second


def test_the_file_of_a_gguf_model(tmp_path):
    file = tmp_path / "model-q4.gguf"
    file.touch()
    expected = _hub.Source(str(tmp_path), True, {"gguf_file": file.name})
    for model in (file, tmp_path, str(tmp_path)):
        assert _hub.locate(model) == expected
    assert _hub.locate(tmp_path, gguf_file=file.name) == expected
    (tmp_path / "model-q8.gguf").touch()
    assert _hub.locate(tmp_path, gguf_file=file.name) == expected
    with pytest.raises(ValueError, match=r"gguf_file: expected one of model-q4.gguf, model-q8\."):
        _hub.locate(tmp_path)
    (tmp_path / "config.json").touch()  # a folder of transformers, with other files beside
    assert _hub.locate(tmp_path) == _hub.Source(str(tmp_path), True)


def test_a_revision_is_of_the_hub():
    source = _hub.locate("owner/model", revision="v2")
    assert source == _hub.Source("owner/model", False, {"revision": "v2"})


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])
