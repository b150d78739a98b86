from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from encoder_support import (
    assert_frozen,
    assert_independent_of_the_batch,
    assert_trains_only_adapters,
    encoded,
)

from fusionops.models.encoders import Unreadable, load_encoder
from fusionops.models.encoders.text import automatic_pooling

Folders = dict[str, Path]
TEXTS = ["red lamp", "a", "the green tea light bag of metal glass", "mug of tea"]
POOLING = {"bert": "mean", "gpt2": "last", "llama": "last", "t5": "mean"}


@pytest.mark.parametrize("name", POOLING)
def test_a_vector_does_not_depend_on_what_it_is_padded_with(text_models: Folders, name):
    encoder = load_encoder("text", text_models[name])
    assert encoder.pooling == POOLING[name]
    assert_independent_of_the_batch(encoder, TEXTS)


def test_who_only_looks_back_is_pooled_by_the_last_token():
    from transformers import AutoConfig

    expected = {
        "last": ["gpt2", "llama", "mistral", "qwen2", "gemma", "clip_text_model"],
        "mean": ["bert", "roberta", "distilbert", "mpnet", "modernbert", "bart", "t5"],
    }
    for pooling, kinds in expected.items():
        found = {kind: automatic_pooling(AutoConfig.for_model(kind)) for kind in kinds}
        assert found == dict.fromkeys(kinds, pooling)
    assert automatic_pooling(AutoConfig.for_model("bert", is_decoder=True)) == "last"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_is_of_the_real_tokens(text_models: Folders, pooling):
    encoder = load_encoder("text", text_models["bert"], pooling=pooling)
    assert_independent_of_the_batch(encoder, TEXTS)
    tokens = torch.tensor([[2, encoder.tokenizer.get_vocab()["lamp"], 3]])
    states = encoder.backbone(tokens).last_hidden_state[0]
    expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
    torch.testing.assert_close(encoded(encoder, ["lamp"])[0], expected)


def test_the_pooling_of_a_sentence_transformers_folder_is_followed(text_models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(text_models["bert"], folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    assert load_encoder("text", folder).pooling == "cls"
    assert load_encoder("text", folder, pooling="mean").pooling == "mean"


def test_long_texts_keep_their_beginning(text_models: Folders):
    encoder = load_encoder("text", text_models["gpt2"], max_length=3)
    long, short = encoded(encoder, ["a red lamp of glass", "a red lamp"])
    torch.testing.assert_close(long, short)
    assert load_encoder("text", text_models["gpt2"]).max_length == 24  # the model's positions
    assert load_encoder("text", text_models["t5"]).max_length == 512  # which has no end


@pytest.mark.parametrize("name", POOLING)
def test_frozen_is_without_gradient(text_models: Folders, name):
    assert_frozen(load_encoder("text", text_models[name]), TEXTS)


@pytest.mark.parametrize("name", POOLING)
def test_lora_trains_adapters_only(text_models: Folders, name):
    pytest.importorskip("peft")
    encoder = load_encoder("text", text_models[name], adaptation="lora", rank=2)
    frozen = load_encoder("text", text_models[name])
    # Adapters begin as nothing.
    torch.testing.assert_close(encoded(encoder.eval(), TEXTS), encoded(frozen, TEXTS))
    assert_trains_only_adapters(encoder, TEXTS)


@pytest.mark.parametrize("name", POOLING)
def test_full_trains_every_weight(text_models: Folders, name):
    encoder = load_encoder("text", text_models[name], adaptation="full").train()
    loss = encoded(encoder, ["a red green lamp", "mug of tea"]).pow(3).sum()
    loss.backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_no_gradient_where_none_is_wanted(text_models: Folders):
    encoder = load_encoder("text", text_models["bert"], adaptation="full")
    assert encoded(encoder, TEXTS).requires_grad
    with torch.no_grad():
        assert not encoded(encoder, TEXTS).requires_grad
    # A frozen encoder gives none even toward weights that somebody has unfrozen.
    frozen = load_encoder("text", text_models["bert"]).requires_grad_(True)
    assert not encoded(frozen, TEXTS).requires_grad


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "the text is blank"),
        (" \n\t", "the text is blank"),
        (None, "expected a text, got NoneType"),
        (float("nan"), "expected a text, got float"),
    ],
)
def test_what_is_no_text_is_unreadable(text_models: Folders, content, why):
    with pytest.raises(Unreadable, match=why):
        load_encoder("text", text_models["bert"]).prepare(content)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pooling": "max"}, "pooling: expected 'auto', 'mean', 'cls' or 'last', got 'max'"),
        ({"max_length": 0}, "max_length: expected an integer of at least 1, got 0"),
        ({"max_length": 25}, "max_length: expected at most 24, which this model takes, got 25"),
        ({"adaptation": "half"}, "adaptation: expected 'frozen', 'lora' or 'full', got 'half'"),
        ({"dtype": "int8"}, "dtype: expected a floating dtype such as 'float32', got 'int8'"),
        ({"adaptation": "lora", "rank": 0}, "rank: expected an integer of at least 1, got 0"),
    ],
)
def test_options_are_checked(text_models: Folders, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_encoder("text", text_models["bert"], **options)


def test_half_precision_weights(text_models: Folders):
    encoder = load_encoder("text", text_models["llama"], dtype="bfloat16")
    assert encoded(encoder, TEXTS).dtype == torch.bfloat16
    full = load_encoder("text", text_models["llama"])
    torch.testing.assert_close(
        encoded(encoder, TEXTS).float(), encoded(full, TEXTS), rtol=0.1, atol=0.1
    )


def test_the_fingerprint_is_of_weights_pooling_and_preprocessing(text_models: Folders, tmp_path):
    def print_of(folder: Path = text_models["bert"], **options: object) -> str:
        return load_encoder("text", folder, **options).fingerprint()

    changed = tmp_path / "tokenizer"
    shutil.copytree(text_models["bert"], changed)
    text = (changed / "tokenizer.json").read_text()
    (changed / "tokenizer.json").write_text(text.replace('"lamp"', '"lantern"'))
    slower = tmp_path / "config"
    shutil.copytree(text_models["bert"], slower)
    config = json.loads((slower / "config.json").read_text())
    (slower / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    weights = load_encoder("text", text_models["bert"])
    with torch.no_grad():
        next(weights.parameters())[3, 5] += 1e-3
    prints = [
        print_of(),
        print_of(pooling="cls"),
        print_of(max_length=7),
        print_of(changed),
        print_of(slower),
        weights.fingerprint(),
        print_of(text_models["gpt2"]),
    ]
    assert len(set(prints)) == len(prints)
    copy = tmp_path / "copy"
    shutil.copytree(text_models["bert"], copy)
    assert print_of(copy) == prints[0]
    used = load_encoder("text", text_models["bert"])
    encoded(used, TEXTS)
    assert used.fingerprint() == prints[0]


def test_the_fingerprint_is_the_same_in_every_process(text_models: Folders):
    script = (
        "import sys; from fusionops.models.encoders import load_encoder; "
        "print(load_encoder('text', sys.argv[1]).fingerprint())"
    )
    command = [sys.executable, "-c", script, str(text_models["bert"])]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.split()[-1] == load_encoder("text", text_models["bert"]).fingerprint()
