from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_support import assert_frozen, assert_trains_only_adapters, encoded

from fusionops.models.encoders import Unreadable, load_encoder

Image = pytest.importorskip("PIL.Image")
Folders = dict[str, Path]
MODELS = ["vit", "clip", "resnet"]


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """Three files of different formats, sizes and colours."""
    generator = np.random.default_rng(0)
    paths = []
    for name, (height, width) in {"a.png": (40, 50), "b.jpg": (64, 33), "c.webp": (32, 32)}.items():
        noise = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        noise[:, :, len(paths)] //= 8
        Image.fromarray(noise).save(tmp_path / name)
        paths.append(tmp_path / name)
    return paths


@pytest.mark.parametrize("name", MODELS)
def test_a_vector_does_not_depend_on_the_batch(image_models: Folders, pictures, name):
    encoder = load_encoder("image", image_models[name])
    together = encoded(encoder, pictures)
    assert together.shape == (3, encoder.width) == (3, 16)
    assert encoder.length(encoder.prepare(pictures[0])) == 1
    alone = torch.cat([encoded(encoder, [str(picture)]) for picture in pictures])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert float(torch.pdist(together).min()) > 1e-3


def test_nor_does_it_in_training(image_models: Folders, pictures):
    encoder = load_encoder("image", image_models["resnet"], adaptation="full").train()
    assert encoder.training
    together = encoded(encoder, pictures)
    alone = torch.cat([encoded(encoder, [picture]) for picture in pictures])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoded(encoder.eval(), pictures), together)


def test_the_tower_of_clip_is_that_of_pictures(image_models: Folders, pictures):
    from transformers import CLIPModel

    encoder = load_encoder("image", image_models["clip"])
    whole = CLIPModel.from_pretrained(image_models["clip"]).eval()
    pixels = encoder.prepare(pictures[0])["pixels"][None]
    with torch.no_grad():
        expected = whole.vision_model(pixels).pooler_output
    torch.testing.assert_close(encoded(encoder, pictures[:1]), expected)


def test_the_tower_of_clip_for_texts(image_models: Folders):
    from transformers import CLIPModel

    encoder = load_encoder("text", image_models["clip"])
    assert encoder.pooling == "last"  # CLIP only looks back
    tokens = torch.tensor([encoder.prepare("red lamp")["input_ids"]])
    with torch.no_grad():
        states = CLIPModel.from_pretrained(image_models["clip"]).text_model(tokens)[0]
    torch.testing.assert_close(encoded(encoder, ["red lamp"]), states[:, -1])


def test_a_pooler_left_to_chance_is_not_used(image_models: Folders, pictures):
    # The classifier's checkpoint has none.
    first, second = (load_encoder("image", image_models["vit"]) for _ in range(2))
    assert torch.equal(encoded(first, pictures), encoded(second, pictures))
    assert first.fingerprint() == second.fingerprint()
    pixels = torch.stack([first.prepare(picture)["pixels"] for picture in pictures])
    states = first.backbone.network(pixels).last_hidden_state
    assert torch.equal(encoded(first, pictures), states[:, 0])


@pytest.mark.parametrize("name", MODELS)
def test_frozen_is_without_gradient(image_models: Folders, pictures, name):
    assert_frozen(load_encoder("image", image_models[name]), pictures)


@pytest.mark.parametrize("name", MODELS)
def test_lora_trains_adapters_only(image_models: Folders, pictures, name):
    pytest.importorskip("peft")
    encoder = load_encoder("image", image_models[name], adaptation="lora", rank=2)
    frozen = load_encoder("image", image_models[name])
    torch.testing.assert_close(encoded(encoder.eval(), pictures), encoded(frozen, pictures))
    assert_trains_only_adapters(encoder, pictures)


@pytest.mark.parametrize("name", MODELS)
def test_full_trains_every_weight(image_models: Folders, pictures, name):
    encoder = load_encoder("image", image_models[name], adaptation="full").train()
    encoded(encoder, pictures).pow(3).sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def _bytes(content: bytes):
    return lambda path: path.write_bytes(content)


def _truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (_truncated, "the picture cannot be read: .*truncated"),
        (_bytes(b"this is a text\n" * 10), "it is no picture of a known format"),
        (_bytes(b""), "the file is empty"),
        (lambda path: None, "there is no such file"),
        (Path.mkdir, "not a file"),
    ],
)
def test_unreadable_files(image_models: Folders, tmp_path, write, why):
    path = tmp_path / "picture.jpg"
    write(path)
    encoder = load_encoder("image", image_models["vit"])
    for content in (path, str(path)):
        with pytest.raises(Unreadable, match=why):
            encoder.prepare(content)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "expected a path, a picture or an array, got NoneType"),
        (3.5, "expected a path, a picture or an array, got float"),
        (np.zeros((4, 4, 7), np.uint8), "the picture cannot be read"),
        (np.zeros((4, 4, 3), np.float64), "the picture cannot be read"),
    ],
)
def test_what_is_no_picture_is_unreadable(image_models: Folders, content, why):
    with pytest.raises(Unreadable, match=why):
        load_encoder("image", image_models["vit"]).prepare(content)


def test_colours_and_orientation(image_models: Folders, tmp_path):
    encoder = load_encoder("image", image_models["vit"])

    def same(left, right) -> None:
        torch.testing.assert_close(
            encoder.prepare(left)["pixels"], encoder.prepare(right)["pixels"]
        )

    rows = np.arange(0, 256, 4, dtype=np.uint8)[:, None].repeat(64, 1)
    grey = np.repeat(rows[:, :, None], 3, 2)
    same(rows, grey)
    # What is transparent is white, whatever colour it has.
    clear = np.dstack([grey, np.where(rows < 128, 0, 255).astype(np.uint8)])
    same(clear, np.where(rows < 128, 255, rows).astype(np.uint8))
    # 16 bits are scaled, not cut.
    Image.fromarray(rows.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    same(tmp_path / "deep.png", grey)
    # A camera held upside down says so.
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(grey[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    same(tmp_path / "turned.png", grey)
    palette = Image.fromarray(grey).convert("P")
    same(palette, palette.convert("RGB"))


def test_the_fingerprint_is_of_weights_and_preprocessing(image_models: Folders, tmp_path):
    folder = Path(shutil.copytree(image_models["vit"], tmp_path / "model"))
    before = load_encoder("image", image_models["vit"]).fingerprint()
    assert load_encoder("image", folder).fingerprint() == before
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["image_mean"] = [0.4, 0.5, 0.5]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load_encoder("image", folder).fingerprint() != before
    changed = load_encoder("image", image_models["vit"], adaptation="full")
    with torch.no_grad():
        next(changed.parameters()).flatten()[0] += 1e-3
    assert changed.fingerprint() != before


def test_a_folder_without_an_image_processor(text_models: Folders):
    with pytest.raises(ValueError, match="model: expected the image processor of a model in"):
        load_encoder("image", text_models["bert"])
