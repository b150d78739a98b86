from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_support import assert_frozen, assert_trains_only_adapters, encoded
from safetensors.torch import save_file

from fusionops.models.encoders import load_encoder

timm = pytest.importorskip("timm")
PICTURES = list(np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet").eval()


def expected(model: torch.nn.Module, encoder) -> torch.Tensor:
    pixels = encoder.collate([encoder.prepare(picture) for picture in PICTURES])["pixels"]
    with torch.no_grad():
        return model.forward_head(model.forward_features(pixels), pre_logits=True)


@pytest.mark.parametrize("adaptation", ["frozen", "lora", "full"])
def test_a_folder_of_timm(classifier, tmp_path, adaptation):
    from timm.models import save_for_hf

    save_for_hf(classifier, tmp_path, safe_serialization=True)
    encoder = load_encoder("image", tmp_path, adaptation=adaptation)
    assert encoder.width == 96
    torch.testing.assert_close(encoded(encoder.eval(), PICTURES), expected(classifier, encoder))
    if adaptation == "frozen":
        assert_frozen(encoder, PICTURES)
    elif adaptation == "lora":
        assert_trains_only_adapters(encoder, PICTURES)


def _named(weights: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(weights, path)


def _renamed(weights: dict[str, torch.Tensor], path: Path) -> None:
    kept = [value for name, value in weights.items() if "num_batches" not in name]
    torch.save(OrderedDict((f"_x{i}", value) for i, value in enumerate(kept)), path)


def _wrapped(weights: dict[str, torch.Tensor], path: Path) -> None:
    torch.save({"state_dict": weights, "epoch": 3}, path)


@pytest.mark.parametrize("write", [_named, _renamed, _wrapped])
def test_a_file_of_weights(classifier, tmp_path, write):
    path = tmp_path / "weights.pth"
    write(classifier.state_dict(), path)
    encoder = load_encoder("image", path, architecture="test_resnet")
    torch.testing.assert_close(encoded(encoder, PICTURES), expected(classifier, encoder))


def test_a_file_of_safetensors(classifier, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(classifier.state_dict(), path)
    encoder = load_encoder("image", str(path), architecture="test_resnet", dtype="bfloat16")
    assert encoded(encoder, PICTURES).dtype == torch.bfloat16
    torch.testing.assert_close(
        encoded(encoder, PICTURES).float(), expected(classifier, encoder), rtol=0.1, atol=0.05
    )


def test_files_that_are_not_of_this_model(classifier, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(classifier.state_dict(), path)
    with pytest.raises(ValueError, match=r"model: expected the \d+ weights of resnet18, .* got 7"):
        load_encoder("image", path, architecture="resnet18")
    with pytest.raises(ValueError, match="expected the name in timm of the model whose weights"):
        load_encoder("image", path)
    with pytest.raises(ValueError, match="expected the name of a model of timm, got 'resnet'"):
        load_encoder("image", path, architecture="resnet")
    with pytest.raises(ValueError, match="expected it only beside a file of weights"):
        load_encoder("image", tmp_path, architecture="resnet18")
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match="model: expected the weights of a model in"):
        load_encoder("image", path, architecture="resnet18")


def test_a_hub_out_of_reach(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="hf download timm/no-such-model --local-dir FOLDER"):
        load_encoder("image", "timm/no-such-model")
