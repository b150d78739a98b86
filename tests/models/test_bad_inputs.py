"""Bad input, and the one sentence that a person gets for it, as bad_inputs.txt has them.

A sentence names the argument, what came and what was expected. There ``<tmp>`` stands for the
folder of the test, and ``...`` at the end for what another library says, or a hash.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recommender_support import QUICK, TINY, encoded, fitted, item_ids, shop
from typer.testing import CliRunner

from fusionops.data import IdMap, Interactions, Items, Reviews, Users
from fusionops.data.encoded import Encoded
from fusionops.data.report import InputWarning
from fusionops.models import LinearFusion
from fusionops.models.fusion_recommender import FusionRecommender, FusionRecommenderConfig


@dataclass
class Here:
    """A shop, a model of each kind that is fitted on it, and a folder for what is damaged."""

    interactions: Interactions
    items: Items
    features: Encoded
    linear: LinearFusion
    fusion: FusionRecommender
    folder: Path

    def fit(self, *arguments: Any, **inputs: Any) -> Any:
        """Fit a FusionRecommender on these inputs, or on the shop with one thing changed."""
        choices = {name: inputs.pop(name) for name in list(inputs) if name in PARAMETERS}
        given = {"arguments": QUICK, **inputs}
        interactions = arguments or (self.interactions,)
        return FusionRecommender(**{**TINY, **choices}).fit(*interactions, **given)

    def command(self, *arguments: object) -> None:
        """Run a command line; what it says on stderr is raised, for a traceback is no sentence."""
        from fusionops.cli.app import app

        result = CliRunner().invoke(app, [str(one) for one in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 2, result.stdout
        raise SystemExit(result.stderr.strip())

    def written(self, name: str, content: str | bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file


PARAMETERS = FusionRecommenderConfig.parameters()


@pytest.fixture(scope="module")
def models() -> tuple[Any, ...]:
    interactions = shop()
    features = encoded(interactions.items)
    items = Items(
        interactions.items,
        text={"title": ["mug", "lamp", "tea", "bag"] * 9},
        numeric={"price": np.linspace(1, 9, 36)},
    )
    linear = LinearFusion(rank=8).fit(interactions, items)
    fusion = fitted(interactions, inputs={"items": items, "features": {"text": features}})
    return interactions, items, features, linear, fusion


@pytest.fixture
def here(models: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return Here(*models, tmp_path)


def columns(**changed: Any) -> dict[str, Any]:
    table = {"user": ["a", "a", "b"], "item": ["x", "y", "x"], "time": ["2024-01-01"] * 3}
    return {name: value for name, value in {**table, **changed}.items() if value is not None}


def rows(users: list[int], items: list[int], n_items: int | None = None) -> Interactions:
    names = IdMap(item_ids(n_items or max(items) + 1))
    ids = IdMap([f"u{code}" for code in range(max(users) + 1)])
    return Interactions(np.array(users), np.array(items), ids, names)


def vectors(ids: Any, width: int = 6) -> Encoded:
    ids = IdMap(ids)
    return Encoded(ids, np.ones((len(ids), width), np.float32), np.ones(len(ids), bool))


def absent(here: Here) -> Encoded:
    return Encoded(here.interactions.items, np.zeros((36, 6), np.float32), np.zeros(36, bool))


def not_a_number(here: Here) -> Encoded:
    broken = here.features.vectors.copy()
    broken[4, 2] = np.nan
    return Encoded(here.features.ids, broken, here.features.present)


def reviews(here: Here, *, items: IdMap | None = None) -> Reviews:
    one = np.array([0])
    ids = here.interactions.items if items is None else items
    return Reviews(one, one, here.interactions.users, ids, ["fine"], np.array([5.0]))


def saved(here: Here, kind: str) -> Path:
    getattr(here, kind).save_pretrained(here.folder / "model")
    return here.folder / "model"


def cut(file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file.parent


def later(here: Here) -> Path:
    file = saved(here, "fusion") / "fusionops.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 2}))
    return file.parent


def checkpoint_of_another(here: Here) -> Path:
    there = here.folder / "out"
    arguments = {"save_strategy": "epoch", "output_dir": str(there)}
    fitted(here.interactions, arguments=arguments, dim=16)
    return next(there.glob("checkpoint-*"))


def picture(here: Here, content: bytes) -> Any:
    from fusionops.models.encoders.image import open_picture

    return open_picture(here.written("bad.jpg", content))


def warned(call: Callable[[], Any]) -> Any:
    """What is taken as missing, and said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        return call()


def sound(here: Here) -> Any:
    pytest.importorskip("soundfile")
    from fusionops.models.encoders._sound import read_sound

    return read_sound(here.written("words.wav", "these are words"), 16_000, 10.0)


def encoder(modality: str, model: Any) -> Any:
    from fusionops.models.encoders import load_encoder

    return load_encoder(modality, model)


def sales(here: Here, header: str = "user,item") -> Path:
    return here.written("sales.csv", f"{header}\na,x\na,y\nb,x\n")


DATA: dict[str, Callable[[Here], Any]] = {
    "a column that is not there": lambda h: Interactions.from_table(columns(item=None)),
    "a time that is none": lambda h: Interactions.from_table(columns(time=["soon"] * 3)),
    "an id that is missing": lambda h: Interactions.from_table(columns(user=["a", None, "b"])),
    "an empty table": lambda h: Interactions.from_table({n: [] for n in columns()}),
    "ids that come twice": lambda h: Items.from_table({"item": ["a", "b", "a"]}),
    "ids of two kinds": lambda h: IdMap(["a", 1]),
    "a price in words": lambda h: warned(
        lambda: Items.from_table({"item": ["a"], "price": ["cheap"]}, numeric=["price"])
    ),
    "features that are not finite": not_a_number,
    "features of another shape": lambda h: Encoded(
        h.items.ids, np.ones((3, 6), np.float32), np.ones(36, bool)
    ),
}

FIT: dict[str, Callable[[Here], Any]] = {
    "a table in place of interactions": lambda h: h.fit(columns()),
    "no row": lambda h: h.fit(h.interactions.select(np.zeros(len(h.interactions), bool))),
    "one item": lambda h: h.fit(rows([0, 1], [0, 0])),
    "users of one item each": lambda h: h.fit(rows([0, 1], [0, 1])),
    "features without a name": lambda h: h.fit(features=h.features),
    "features of a name that is taken": lambda h: h.fit(features={"id": h.features}),
    "features that are an array": lambda h: h.fit(features={"text": h.features.vectors}),
    "features that match no item": lambda h: h.fit(features={"text": vectors(["q", "r"])}),
    "features by ids of another kind": lambda h: h.fit(features={"text": vectors([1, 2])}),
    "all modalities missing": lambda h: h.fit(features={"text": absent(h)}, item_ids=False),
    "nothing to know an item by": lambda h: h.fit(item_ids=False),
    "items by ids of another kind": lambda h: h.fit(items=Items(IdMap([1, 2]))),
    "users by ids of another kind": lambda h: h.fit(users=Users(IdMap([1, 2]))),
    "a value of an argument": lambda h: h.fit(arguments={**QUICK, "save_strategy": "often"}),
    "items in place of users": lambda h: h.fit(users=h.items),
    "reviews without vectors": lambda h: h.fit(reviews=reviews(h)),
    "reviews of other items": lambda h: h.fit(
        reviews=(reviews(h, items=IdMap(["x"])), vectors(["r0"]))
    ),
    "too few vectors of reviews": lambda h: h.fit(reviews=(reviews(h), vectors(["r0", "r1"]))),
    "a start that is none": lambda h: h.fit(start="linear"),
    "a start that is not fitted": lambda h: h.fit(start=LinearFusion()),
    "a start of other items": lambda h: h.fit(rows([0, 0], [0, 1]), start=h.linear),
    "a start that is too narrow": lambda h: h.fit(start=h.linear, dim=16),
    "a start without ids": lambda h: h.fit(start=h.linear, residual=False),
    "an argument of no Trainer": lambda h: h.fit(arguments={"epochs": 3}),
    "nothing to go on from": lambda h: h.fit(
        resume=True, arguments={**QUICK, "output_dir": str(h.folder)}
    ),
    "a checkpoint that is not there": lambda h: h.fit(resume=h.folder / "checkpoint-7"),
    "a checkpoint of another model": lambda h: h.fit(resume=checkpoint_of_another(h)),
    "a word of no fusion": lambda h: h.fit(fusion="cross"),
    "a word of no loss": lambda h: h.fit(loss="bpr"),
    "a choice that is not there": lambda h: FusionRecommender(fusoin="deep"),
    "heads that do not divide": lambda h: h.fit(num_heads=3),
    "a scale out of range": lambda h: h.fit(scale=200.0),
    "a share that is none": lambda h: h.fit(modality_dropout=1.0),
    "a config of a later version": lambda h: FusionRecommenderConfig(format_version=2),
    "LinearFusion: no interactions": lambda h: LinearFusion().fit(columns()),
    "LinearFusion: a column that is not there": lambda h: LinearFusion(content=("blurb",)).fit(
        h.interactions, h.items
    ),
    "LinearFusion: a parameter out of range": lambda h: LinearFusion(rank=0),
    "LinearFusion: features of no item": lambda h: LinearFusion().fit(
        h.interactions, features={"text": vectors(["q"])}
    ),
}


def of_both(name: str, call: Callable[[Any], Any]) -> dict[str, Callable[[Here], Any]]:
    """The same of a fitted model of each kind."""
    return {
        f"{kind}: {name}": lambda h, kind=kind: call(getattr(h, kind))
        for kind in ("linear", "fusion")
    }


ASK: dict[str, Callable[[Here], Any]] = {
    **of_both("k is 0", lambda m: m.recommend(["u00"], 0)),
    **of_both("k is a fraction", lambda m: m.recommend(["u00"], 2.5)),
    **of_both("one user", lambda m: m.recommend("u00")),
    **of_both("users of another kind", lambda m: m.recommend([1, 2])),
    **of_both("an item that is not there", lambda m: m.similar_items("lamp")),
    **of_both("an item of a history", lambda m: m.recommend_for({"she": ["i00", "lamp"]})),
    **of_both("a column to filter by", lambda m: m.recommend(["u00"], item_filter={"size": 1})),
    **of_both("a recency that has no name", lambda m: m.recommend(["u00"], recency="slow")),
    **of_both("pairs without items", lambda m: m.score({"user": ["u00"]})),
    **of_both("codes that are not there", lambda m: m.rank(np.array([99]), 3)),
    **of_both("an added item that is there", lambda m: m.add_items(m.items.take(["i00"]))),
    **of_both("an added item without columns", lambda m: m.add_items({"item": ["new"]})),
    **of_both("explain: an item that is not there", lambda m: m.explain("u00", "lamp")),
    **of_both("explain: items", lambda m: m.explain("u00", ["i00", "i01"])),
    **of_both("explain: users", lambda m: m.explain(["u00"], "i00")),
    **of_both("explain: a user of another kind", lambda m: m.explain(7, "i00")),
    **of_both("explain: k is 0", lambda m: m.explain("u00", "i00", k=0)),
    **of_both("explain: k is a fraction", lambda m: m.explain_list("u00", 2.5)),
    **of_both("explain: a method of no kind", lambda m: m.explain("u00", "i00", method="shap")),
    **of_both("explain: no removal", lambda m: m.explain("u00", "i00", largest_removal=0)),
    **of_both("explain: a budget in words", lambda m: m.explain("u00", "i00", budget="all")),
    **of_both("explain: a recency", lambda m: m.explain_list("u00", recency="slow")),
    **of_both(
        "explain: a column to filter by", lambda m: m.explain_list("u00", item_filter={"a": 1})
    ),
    **of_both("explain: excluded of others", lambda m: m.explain_list("u00", exclude={"u01": []})),
    **of_both("explain: a history in words", lambda m: m.explain_for("i00", "i01")),
    **of_both("explain: a history of one", lambda m: m.explain_for(3, "i01")),
    **of_both("explain: a history of others", lambda m: m.explain_for(["lamp"], "i01")),
    "explain: contributions of what is no sum": lambda h: h.fusion.explain(
        "u00", "i00", method="contributions"
    ),
    "not fitted: linear": lambda h: LinearFusion().recommend(["u00"]),
    "not fitted: fusion": lambda h: FusionRecommender(**TINY).recommend(["u00"]),
    "explain, not fitted: linear": lambda h: LinearFusion().explain("u00", "i00"),
    "explain, not fitted: fusion": lambda h: FusionRecommender(**TINY).explain_list("u00"),
    "added vectors of another width": lambda h: h.fusion.add_items(
        {"item": ["new"], "title": ["mug"], "price": [1.0]},
        features={"text": vectors(["new"], 5)},
    ),
    "added vectors of another modality": lambda h: h.fusion.add_items(
        {"item": ["new"], "title": ["mug"], "price": [1.0]}, features={"image": vectors(["new"])}
    ),
}

FILES: dict[str, Callable[[Here], Any]] = {
    "linear: no model": lambda h: LinearFusion.from_pretrained(h.folder / "none"),
    "fusion: no model": lambda h: FusionRecommender.from_pretrained(h.folder / "none"),
    "linear: a damaged file": lambda h: LinearFusion.from_pretrained(
        cut(saved(h, "linear") / "config.json")
    ),
    "fusion: a damaged file": lambda h: FusionRecommender.from_pretrained(
        cut(saved(h, "fusion") / "model.safetensors")
    ),
    "fusion: a later version": lambda h: FusionRecommender.from_pretrained(later(h)),
    "fusion: a model of the other kind": lambda h: FusionRecommender.from_pretrained(
        saved(h, "linear")
    ),
    "linear: a model of the other kind": lambda h: LinearFusion.from_pretrained(saved(h, "fusion")),
    "vectors that are words": lambda h: Encoded.load(h.written("v.safetensors", "words")),
    "vectors that are not there": lambda h: Encoded.load(h.folder / "v.safetensors"),
    "a picture that is cut off": lambda h: picture(h, b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "a sound that is words": sound,
    "a modality of no encoder": lambda h: encoder("smell", h.folder),
    "a folder without a model": lambda h: encoder("text", h.folder),
    "a model that no hub gives": lambda h: encoder("text", "nobody/nothing"),
}

COMMANDS: dict[str, Callable[[Here], Any]] = {
    "fit: a file that is not there": lambda h: h.command(
        "fit", "--interactions", h.folder / "no.csv", "--out", h.folder / "m"
    ),
    "fit: a column that is not there": lambda h: h.command(
        "fit", "--interactions", sales(h, "who,item"), "--out", h.folder / "m"
    ),
    "fit: a parameter that is not there": lambda h: h.command(
        "fit", "--interactions", sales(h), "--out", h.folder / "m", "--set", "width=3"
    ),
    "recommend: no model": lambda h: h.command("recommend", h.folder / "none", "--user", "a"),
    "encode: a column that is not there": lambda h: h.command(
        "encode", sales(h), "--out", h.folder / "v", "--text", f"title={h.folder}"
    ),
}

CALLS = {**DATA, **FIT, **ASK, **FILES, **COMMANDS}


def sentences() -> dict[str, str]:
    """The kind of error and what it says, by the name of the case."""
    lines = (Path(__file__).parent / "bad_inputs.txt").read_text().splitlines()
    return {lines[row]: lines[row + 1].strip() for row in range(0, len(lines), 3)}


def said(error: BaseException) -> str:
    """What is printed of an error; the str of a KeyError is the repr of its message."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    kind = "" if isinstance(error, SystemExit) else f"{type(error).__name__}: "
    return f"{kind}{' '.join(text.split())}"


def test_every_case_has_its_sentence():
    assert list(sentences()) == list(CALLS)


@pytest.mark.parametrize("case", CALLS)
def test_the_sentence(here: Here, case: str):
    with pytest.raises((Exception, SystemExit)) as caught:
        CALLS[case](here)
    found = said(caught.value).replace(str(here.folder), "<tmp>")
    expected = sentences()[case]
    if expected.endswith("..."):
        found = found[: len(expected) - 3] + "..."
    assert found == expected
