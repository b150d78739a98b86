"""Tiny models with random weights, saved as a hub would give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

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
