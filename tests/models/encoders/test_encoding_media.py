"""Real pictures and sounds, of which some cannot be read: told by id, missing, and no crash."""

import numpy as np
import pytest

from fusionops.data import Encoded, IdMap
from fusionops.models.encoders import load_encoder
from fusionops.models.encoders.encoding import encode

soundfile = pytest.importorskip("soundfile")
image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pictures(tmp_path):
    noise = np.random.default_rng(0)
    for name in "ab":
        pixels = noise.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{name}.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("a letter")
    (tmp_path / "empty.jpg").touch()
    return ["a.jpg", "cut.jpg", "text.jpg", "empty.jpg", "none.jpg", None, "b.jpg"]


@pytest.fixture
def sounds(tmp_path, tones):
    for name, tone in zip("ab", tones, strict=False):
        soundfile.write(tmp_path / f"{name}.wav", tone, 16_000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    (tmp_path / "text.wav").write_text("a letter")
    (tmp_path / "empty.wav").touch()
    return ["a.wav", "cut.wav", "text.wav", "empty.wav", "none.wav", None, "b.wav"]


@pytest.mark.parametrize(
    ("modality", "model", "contents"), [("image", "vit", "pictures"), ("audio", "ast", "sounds")]
)
def test_what_cannot_be_read_is_missing_and_told(tmp_path, request, modality, model, contents):
    contents = request.getfixturevalue(contents)
    models = request.getfixturevalue(f"{modality}_models")
    encoder = load_encoder(modality, models[model])
    path = tmp_path / "features.safetensors"
    ids = IdMap([f"sku{row}" for row in range(len(contents))])
    found, problems = encode(encoder, ids, contents, path=path, base_folder=tmp_path)
    assert found.present.tolist() == [True, False, False, False, False, False, True]
    assert not np.allclose(found.vectors[0], found.vectors[6])
    assert [problem.example for problem in problems] == ["sku1", "sku2", "sku3", "sku4"]
    for problem, content in zip(problems, contents[1:5], strict=True):
        assert problem.sentence.startswith(f"{modality} of {problem.example!r}, {content}: ")
        assert problem.sentence.count("\n") == 0
    assert Encoded.load(path).present.tolist() == found.present.tolist()
    for row in (0, 6):
        content = tmp_path / contents[row]
        alone = encoder(**encoder.collate([encoder.prepare(content)]))[0].numpy()
        np.testing.assert_allclose(found.vectors[row], alone, rtol=1e-4, atol=1e-5)
