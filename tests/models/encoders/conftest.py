"""Tiny models with random weights, saved as a hub would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch


@pytest.fixture(autouse=True)
def _lora_needs_peft(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("adaptation") == "lora":
        pytest.importorskip("peft")


WORDS = ["the", "a", "red", "green", "lamp", "mug", "tea", "light", "bag", "of", "metal", "glass"]


def tokenizer(*, special: bool) -> Any:
    """Words by spaces; with ``[CLS]`` and ``[SEP]`` around them and a padding token, or without."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    vocabulary = {name: code for code, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not special:
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(
        BertConfig(vocab_size=16, intermediate_size=32, max_position_embeddings=24, **SIZES)
    )


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=16, n_embd=16, n_layer=2, n_head=2, n_positions=24)
    )


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(vocab_size=16, intermediate_size=32, max_position_embeddings=24, **SIZES)
    )


def t5() -> Any:
    from transformers import T5Config, T5Model

    return T5Model(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))


TEXT_MODELS = {"bert": bert, "gpt2": gpt2, "llama": llama, "t5": t5}


def save(folder: Path, model: Any, *processors: Any) -> Path:
    for part in (model, *processors):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each of :data:`TEXT_MODELS`."""
    folders = {}
    for name, make in TEXT_MODELS.items():
        torch.manual_seed(0)
        special = name in ("bert", "t5")
        folders[name] = save(tmp_path_factory.mktemp(name), make(), tokenizer(special=special))
    return folders


def vit() -> tuple[Any, Any]:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(intermediate_size=32, image_size=32, patch_size=8, **SIZES)
    size = {"height": 32, "width": 32}
    return ViTForImageClassification(config), ViTImageProcessor(size=size)


def clip() -> tuple[Any, ...]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tower = {"intermediate_size": 32, **SIZES}
    config = CLIPConfig(
        text_config={"vocab_size": 16, "max_position_embeddings": 24, **tower},
        vision_config={"image_size": 32, "patch_size": 8, **tower},
        projection_dim=16,
    )
    processor = CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    return CLIPModel(config), processor, tokenizer(special=False)


def resnet() -> tuple[Any, Any]:
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    return ResNetModel(config), ConvNextImageProcessor(size={"shortest_edge": 32})


IMAGE_MODELS = {"vit": vit, "clip": clip, "resnet": resnet}


@pytest.fixture(scope="session")
def image_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each of :data:`IMAGE_MODELS`."""
    folders = {}
    for name, make in IMAGE_MODELS.items():
        torch.manual_seed(0)
        folders[name] = save(tmp_path_factory.mktemp(name), *make())
    return folders


def wav2vec2(norm: str) -> tuple[Any, Any]:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    config = Wav2Vec2Config(
        intermediate_size=32,
        conv_dim=(8, 8, 8),
        conv_stride=(5, 8, 8),
        conv_kernel=(10, 8, 12),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        layerdrop=0.0,
        **SIZES,
    )
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    return Wav2Vec2Model(config), extractor


def ast() -> tuple[Any, Any]:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    shape = {"max_length": 64, "num_mel_bins": 32}
    return ASTModel(ASTConfig(intermediate_size=32, **shape, **SIZES)), ASTFeatureExtractor(**shape)


def whisper() -> tuple[Any, Any]:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    layers = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in _WHISPER}
    config = WhisperConfig(
        d_model=16,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=20,
        vocab_size=32,
        max_source_positions=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        **layers,
    )
    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=1)
    return WhisperForConditionalGeneration(config), extractor


_WHISPER = ("layers", "attention_heads")
AUDIO_MODELS = {
    "wav2vec2": lambda: wav2vec2("layer"),
    "wav2vec2-base": lambda: wav2vec2("group"),
    "ast": ast,
    "whisper": whisper,
}


@pytest.fixture(scope="session")
def audio_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each of :data:`AUDIO_MODELS`."""
    folders = {}
    for name, make in AUDIO_MODELS.items():
        torch.manual_seed(0)
        folders[name] = save(tmp_path_factory.mktemp(name), *make())
    return folders


RATE = 16_000


def tone(seconds: float, pitch: float, *, rate: int = RATE) -> npt.NDArray[np.float32]:
    """A sound that grows, with an overtone: `pitch` in Hz."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * pitch * time) + 0.3 * np.sin(6 * np.pi * pitch * time)
    return (0.3 * wave * (0.2 + time)).astype(np.float32)


@pytest.fixture
def tones() -> list[npt.NDArray[np.float32]]:
    """Sounds of different lengths and pitches."""
    return [tone(0.3, 220), tone(0.1, 880), tone(0.6, 523)]
