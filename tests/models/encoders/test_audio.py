from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_support import (
    assert_frozen,
    assert_independent_of_the_batch,
    assert_trains_only_adapters,
    encoded,
)

from fusionops.models.encoders import Unreadable, load_encoder

soundfile = pytest.importorskip("soundfile")
Folders = dict[str, Path]
MODELS = ["wav2vec2", "wav2vec2-base", "ast", "whisper"]
RATE = 16_000


@pytest.mark.parametrize("name", ["wav2vec2", "wav2vec2-base"])
def test_a_vector_does_not_depend_on_what_it_is_padded_with(audio_models: Folders, tones, name):
    assert_independent_of_the_batch(load_encoder("audio", audio_models[name]), tones)


@pytest.mark.parametrize("name", ["ast", "whisper"])
def test_models_of_a_fixed_length(audio_models: Folders, tones, name):
    encoder = load_encoder("audio", audio_models[name])
    together = encoded(encoder, tones)
    assert together.shape == (3, encoder.width) == (3, 16)
    alone = torch.cat([encoded(encoder, [sound]) for sound in tones])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert float(torch.pdist(together).min()) > 1e-3


def test_whisper_is_pooled_over_the_frames_with_sound(audio_models: Folders, tones):
    encoder = load_encoder("audio", audio_models["whisper"])
    prepared = encoder.prepare(tones[0])  # 0.3 s: 30 frames of 10 ms, 15 of 20 ms
    states = encoder.backbone(prepared["values"][None]).last_hidden_state
    assert states.shape[1] == 50
    torch.testing.assert_close(encoded(encoder, tones[:1]), states[:, :15].mean(1))


def test_ast_pools_itself(audio_models: Folders, tones):
    encoder = load_encoder("audio", audio_models["ast"])
    values = encoder.prepare(tones[0])["values"][None]
    torch.testing.assert_close(encoded(encoder, tones[:1]), encoder.backbone(values).pooler_output)


@pytest.mark.parametrize("name", MODELS)
def test_frozen_is_without_gradient(audio_models: Folders, tones, name):
    assert_frozen(load_encoder("audio", audio_models[name]), tones)


@pytest.mark.parametrize("name", MODELS)
def test_lora_trains_adapters_only(audio_models: Folders, tones, name):
    pytest.importorskip("peft")
    encoder = load_encoder("audio", audio_models[name], adaptation="lora", rank=2)
    frozen = load_encoder("audio", audio_models[name])
    torch.testing.assert_close(encoded(encoder.eval(), tones), encoded(frozen, tones))
    assert_trains_only_adapters(encoder, tones)


@pytest.mark.parametrize("name", MODELS)
def test_full_trains_every_weight_that_is_no_constant(audio_models: Folders, tones, name):
    encoder = load_encoder("audio", audio_models[name], adaptation="full").train()
    encoded(encoder, tones).pow(3).sum().backward()
    constants = {n for n, weight in encoder.named_parameters() if not weight.requires_grad}
    assert all(n.endswith(("masked_spec_embed", "embed_positions.weight")) for n in constants)
    assert all(weight.grad is not None for weight in encoder.parameters() if weight.requires_grad)


def test_files_rates_and_channels(audio_models: Folders, tones, tmp_path):
    encoder = load_encoder("audio", audio_models["wav2vec2"])

    def values(content):
        return encoder.prepare(content)["values"]

    wave = tones[2]
    beat = 0.1 * np.sin(np.arange(len(wave)))
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    torch.testing.assert_close(values(tmp_path / "a.wav"), values(wave))
    soundfile.write(tmp_path / "b.flac", np.stack([0.5 * wave + beat, 0.5 * wave - beat], 1), RATE)
    torch.testing.assert_close(values(str(tmp_path / "b.flac")), values(wave), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        values((wave * 32767).astype(np.int16)), values(wave), atol=1e-3, rtol=0
    )
    from_three_times, own = (
        values(content) for content in ((_middle_c(3 * RATE), 3 * RATE), _middle_c(RATE))
    )
    assert len(from_three_times) == len(own) == RATE // 2
    edge = 50  # where the filter sees the end of the sound
    torch.testing.assert_close(from_three_times[edge:-edge], own[edge:-edge], atol=0.02, rtol=0)


def _middle_c(rate: int):
    return np.sin(2 * np.pi * 262 * np.arange(rate // 2) / rate).astype(np.float32)


def test_long_sounds_keep_their_beginning(audio_models: Folders, tones, tmp_path):
    encoder = load_encoder("audio", audio_models["wav2vec2"], max_seconds=0.25)
    soundfile.write(tmp_path / "a.wav", tones[2], RATE, subtype="FLOAT")
    start = encoder.prepare(tones[2][: RATE // 4])["values"]
    for content in (tones[2], tmp_path / "a.wav"):
        torch.testing.assert_close(encoder.prepare(content)["values"], start)


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: path.write_text("this is a text\n" * 100), "the sound cannot be read: "),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: None, "there is no such file"),
        (Path.mkdir, "not a file"),
        (lambda path: path.write_bytes(b"RIFF\x10\0\0\0WAVEfmt "), "the sound cannot be read: "),
        (
            lambda path: soundfile.write(path, np.zeros(0), RATE),
            "expected at least 25 ms of sound, got 0",
        ),
        (
            lambda path: soundfile.write(path, np.zeros(160), RATE),
            "expected at least 25 ms of sound, got 10",
        ),
        (
            lambda path: soundfile.write(path, np.full(999, np.nan), RATE, subtype="FLOAT"),
            "expected finite samples, got NaN or Inf",
        ),
    ],
)
def test_unreadable_files(audio_models: Folders, tmp_path, write, why):
    path = tmp_path / "sound.wav"
    write(path)
    encoder = load_encoder("audio", audio_models["wav2vec2"])
    for content in (path, str(path)):
        with pytest.raises(Unreadable, match=why) as caught:
            encoder.prepare(content)
        assert "sound.wav" not in str(caught.value)  # who reports it knows whose it is


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "expected a path, or samples .* got NoneType"),
        (np.zeros((2, 2, 2), np.float32), "expected a path, or samples .* got ndarray"),
        ((np.zeros(999, np.float32), 0), "expected a rate in samples a second, got 0"),
        (np.zeros(999, np.uint8), "expected samples of floats or signed integers, got uint8"),
        (np.full(420, 0.5, np.float32), "the sound is too short for the model: 420 samples"),
    ],
)
def test_what_is_no_sound_is_unreadable(audio_models: Folders, content, why):
    encoder = load_encoder("audio", audio_models["wav2vec2"])
    with pytest.raises(Unreadable, match=why):
        encoder.prepare(content)


def test_silence_is_a_sound(audio_models: Folders):
    for name in MODELS:
        silence = encoded(load_encoder("audio", audio_models[name]), [np.zeros(RATE, np.float32)])
        assert bool(silence.isfinite().all())


def test_the_fingerprint_is_of_weights_and_preprocessing(audio_models: Folders, tmp_path):
    model = audio_models["whisper"]
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    before = load_encoder("audio", model).fingerprint()
    assert load_encoder("audio", folder).fingerprint() == before
    assert load_encoder("audio", model, max_seconds=3).fingerprint() != before
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["dither"] = 0.1
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert load_encoder("audio", folder).fingerprint() != before


def test_options_are_checked(audio_models: Folders, text_models: Folders):
    with pytest.raises(ValueError, match="max_seconds: expected a number above 0, got 0"):
        load_encoder("audio", audio_models["ast"], max_seconds=0)
    with pytest.raises(ValueError, match="model: expected the feature extractor of a model in"):
        load_encoder("audio", text_models["bert"])
