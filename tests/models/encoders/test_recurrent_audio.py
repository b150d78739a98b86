from __future__ import annotations

import numpy as np
import pytest
import torch
from encoder_support import assert_frozen, assert_independent_of_the_batch, encoded
from safetensors.torch import save_file

from fusionops.models.encoders import load_encoder
from fusionops.models.encoders.recurrent_audio import RecurrentAudioEncoder

RATE = 16_000
SMALL = {"bands": 12, "hidden": 16, "layers": 2, "width": 16}


def sound(seconds: float, pitch: float, seed: int = 0):
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * pitch * time + generator.uniform(0, 6))
    return (0.2 * wave + 0.02 * generator.standard_normal(len(time))).astype(np.float32)


@pytest.fixture
def sounds():
    """Of less than one window, and of several."""
    return [sound(2, 300), sound(5, 900), sound(3.5, 1700), sound(1, 150)]


def test_windows_cover_a_sound(sounds):
    encoder = RecurrentAudioEncoder(**SMALL)
    # Of 160 frames, every 77; the last has sound in three quarters of it, or is the only one.
    for wave, count in zip(sounds, [2, 5, 3, 1], strict=True):
        assert encoder.prepare(wave)["windows"].shape == (count, 160, 12)
    first, second = encoder.prepare(sounds[2])["windows"][:2]
    assert torch.equal(first[77:], second[: 160 - 77])


def test_a_vector_does_not_depend_on_what_it_is_padded_with(sounds):
    torch.manual_seed(0)
    encoder = RecurrentAudioEncoder(**SMALL, adaptation="frozen")
    assert_independent_of_the_batch(encoder, sounds[:3])
    lengths = encoded(encoder, sounds).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4))
    assert_frozen(encoder, sounds)


def test_mel_bands():
    """As transformers computes those of Slaney, which are librosa's and so Resemblyzer's."""
    from transformers import audio_utils

    encoder = RecurrentAudioEncoder(bands=40, hidden=4, layers=1, width=4, scale="power")
    wave = sound(1.6, 400)
    filters = audio_utils.mel_filter_bank(201, 40, 0.0, 8000.0, RATE, "slaney", "slaney")
    expected = audio_utils.spectrogram(
        wave,
        audio_utils.window_function(400, "hann"),
        frame_length=400,
        hop_length=160,
        power=2.0,
        pad_mode="constant",
        mel_filters=filters,
    )
    found = encoder.windows(wave)[0].numpy()
    np.testing.assert_allclose(found, expected.T[:160], rtol=1e-3, atol=1e-6)
    # 400 Hz is 6 of the 45.2 mels up to 8 kHz, which 42 edges of 40 bands divide.
    assert found.mean(0).argmax() == round(6 / 45.2 * 41) - 1


def test_loud_and_quiet_are_the_same_below_a_limit(sounds):
    encoder = RecurrentAudioEncoder(**SMALL)
    quiet = encoder.prepare(0.01 * sounds[0])["windows"]
    torch.testing.assert_close(quiet, encoder.prepare(0.001 * sounds[0])["windows"])
    silent = encoder.prepare(np.zeros(RATE, np.float32))
    assert bool(encoder(**encoder.collate([silent])).isfinite().all())


def test_it_learns_from_nothing():
    """Two pitches, told apart after a few steps on other sounds of the same."""
    torch.manual_seed(0)
    encoder = load_encoder("audio", "recurrent", adaptation="full", **SMALL)
    head = torch.nn.Linear(encoder.width, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)

    def batch(seed: int):
        waves = [sound(1, 300 if i % 2 else 1200, seed + i) for i in range(8)]
        return encoder.collate([encoder.prepare(wave) for wave in waves])

    labels = torch.arange(8) % 2
    train, test = batch(0), batch(100)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(head(encoder(**train)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    assert torch.equal(head(encoder(**test)).argmax(1), labels)


def test_weights_from_files(sounds, tmp_path):
    torch.manual_seed(0)
    encoder = RecurrentAudioEncoder(**SMALL, scale="power").eval()
    expected = encoded(encoder, sounds)
    save_file(encoder.state_dict(), tmp_path / "own.safetensors")
    state = {**encoder.state_dict(), "similarity_weight": torch.ones(1)}
    torch.save({"step": 7, "model_state": state}, tmp_path / "speaker.pt")
    for name in ("own.safetensors", "speaker.pt"):
        again = load_encoder("audio", tmp_path / name)
        torch.testing.assert_close(encoded(again, sounds), expected.detach())
        assert again.fingerprint() == encoder.fingerprint()
    logarithmic = load_encoder("audio", tmp_path / "speaker.pt", scale="log")
    assert logarithmic.fingerprint() != encoder.fingerprint()


@pytest.mark.parametrize(
    "content", [b"", b"a text", {"weights": torch.ones(2)}, {"model_state": {"lstm.x": "y"}}]
)
def test_files_that_hold_something_else(tmp_path, content):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="model: expected the recurrent weights of a model in"):
        load_encoder("audio", path)


def test_what_a_recurrent_encoder_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="expected 'frozen' or 'full' for a recurrent encoder"):
        load_encoder("audio", "recurrent", adaptation="lora")
    with pytest.raises(ValueError, match="expected 'full' for a recurrent encoder without weights"):
        load_encoder("audio", "recurrent")
    with pytest.raises(ValueError, match="layers: expected an integer of at least 1, got 0"):
        RecurrentAudioEncoder(layers=0)
    with pytest.raises(ValueError, match="scale: expected 'log' or 'power', got 'mel'"):
        RecurrentAudioEncoder(scale="mel")
    with pytest.raises(FileNotFoundError, match="model: expected a file of weights"):
        load_encoder("audio", tmp_path / "none.pt")
