"""The explanations of small models measured from end to end, and gradients by differences."""

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.faithfulness import cases, picture, report
from benchmarks.faithfulness.cases import Case
from benchmarks.faithfulness.measuring import GRADIENT, OURS, RANDOM, effects, questions
from fusionops.data import Encoded, IdMap, Interactions, Items
from fusionops.models import FusionRecommender, LinearFusion
from fusionops.models.explanation import Situation

N_USERS, N_ITEMS = 30, 24


def shop():
    """Purchases within two kinds of item, with vectors that tell the kinds apart."""
    rng = np.random.default_rng(0)
    matrix = rng.random((N_USERS, N_ITEMS)) < 0.1
    same_kind = (np.arange(N_USERS)[:, None] + np.arange(N_ITEMS)) % 2 == 0
    matrix |= same_kind & (rng.random(matrix.shape) < 0.5)
    user, item = np.nonzero(matrix)
    ids = IdMap([f"i{code:02d}" for code in range(N_ITEMS)])
    interactions = Interactions(
        user=user,
        item=item,
        users=IdMap([f"u{code:02d}" for code in range(N_USERS)]),
        items=ids,
        time=np.datetime64("2024-01-01", "ns")
        + rng.permutation(len(user)).astype("timedelta64[h]"),
    )
    vectors = rng.normal(size=(N_ITEMS, 4)).astype(np.float32)
    vectors[:, 0] += 2 * (np.arange(N_ITEMS) % 2)
    features = {"text": Encoded(ids, vectors, np.ones(N_ITEMS, bool))}
    return Case(interactions, Items(ids=ids), features)


def network(case, behaviour, folder):
    return FusionRecommender(dim=8, behaviour=behaviour).fit(
        case.train,
        case.items,
        features=case.features,
        arguments={
            "seed": 0,
            "output_dir": str(folder),
            "num_train_epochs": 3,
            "learning_rate": 0.01,
            "disable_tqdm": True,
        },
    )


@pytest.fixture(scope="module")
def case():
    return shop()


@pytest.fixture(scope="module")
def linear(case):
    return LinearFusion().fit(case.train, case.items, features=case.features)


@pytest.fixture(scope="module", params=["mean", "attention"])
def trained(case, request, tmp_path_factory):
    return network(case, request.param, tmp_path_factory.mktemp(request.param))


def test_users_are_drawn_by_length_of_history(case, monkeypatch):
    monkeypatch.setattr(cases, "SHORTEST", 8)
    monkeypatch.setattr(cases, "LONGEST", 9)
    lengths = np.diff(case.train.matrix().indptr)
    everyone = case.users(N_USERS)
    assert everyone == np.flatnonzero((lengths >= 8) & (lengths <= 9)).tolist()
    some = case.users(2)
    assert len(some) == 2 < len(everyone)
    assert set(some) < set(everyone)


def test_effects_go_back_to_the_places_of_the_history(linear):
    situation = Situation.of(linear, "u03")
    item = int(linear.rank(np.array([3]), 1)[1][0, 0])
    explanation = linear.explain("u03", f"i{item:02d}")
    whole = np.ones((1, len(situation.history)), bool)
    without = situation.scores(item, ~np.eye(len(situation.history), dtype=bool))
    np.testing.assert_allclose(
        effects(explanation, situation), situation.scores(item, whole) - without, atol=1e-5
    )


def test_contributions_are_gradient_x_input_and_the_best_order(linear):
    pytest.importorskip("captum")
    for one in questions(linear, [0, 3, 8], draws=5):
        assert one["apart"] < 1e-5
        ours, random = one["curves"][OURS], one["curves"][RANDOM]
        assert ours["deletion"][0] == ours["insertion"][-1] == 1
        assert ours["deletion"][-1] == ours["insertion"][0] == 0
        assert np.mean(ours["deletion"]) <= np.mean(random["deletion"])
        assert np.mean(ours["insertion"]) >= np.mean(random["insertion"])


def test_gradients_of_a_network_by_differences(trained):
    pytest.importorskip("captum")
    from benchmarks.faithfulness.gradients import gradient_x_input

    user, item = 5, int(trained.rank(np.array([5]), 1)[1][0, 0])
    situation = Situation.of(trained, "u05")
    found = gradient_x_input(trained)(situation, item)
    expected = [scaled(trained, situation, item, code) for code in situation.history]
    assert user == situation.asked.users[0]
    assert np.abs(found).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-3 * np.abs(found).max())


def scaled(model, situation, item, code, step=0.02):
    """The slope of the score as one item of the history is scaled around what it is."""
    whole = np.ones((1, len(situation.history)), bool)
    pairs, kept = situation.asked.pairs, model._item
    scores = []
    for factor in (1 + step, 1 - step):
        changed = pairs.copy()
        changed.data[pairs.indices == code] *= factor
        if model.config.behaviour == "attention":
            model._item = kept.clone()
            model._item[code] *= factor
        asked = replace(situation.asked, pairs=changed)
        scores.append(replace(situation, asked=asked).scores(item, whole)[0])
        model._item = kept
    return (scores[0] - scores[1]) / (2 * step)


def test_only_models_whose_inputs_are_known(case):
    from benchmarks.faithfulness.gradients import gradient_x_input

    with pytest.raises(TypeError, match="expected LinearFusion or FusionRecommender, got Case"):
        gradient_x_input(case)
    with pytest.raises(ValueError, match="expected behaviour 'mean' or 'attention', got 'gru'"):
        gradient_x_input(FusionRecommender(behaviour="gru"))


def test_without_captum_the_error_names_it(linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match="expected captum to be installed"):
        questions(linear, [0], draws=1)


def test_the_report_says_who_leads(tmp_path):
    rng, leads = np.random.default_rng(0), []
    for model in ("LinearFusion", "FusionRecommender, mean"):
        asked = []
        for user in np.repeat(np.arange(12), 2).tolist():
            start = 0.1 * rng.random()
            fall, line = [1.0, 0.2 + start, 0.0], [1.0, 0.5 + 3 * start, 0.0]
            leads.append((line[1] - fall[1]) / 2)
            rise = [0.0, 0.8, 1.0]
            curves = {
                OURS: {"deletion": fall, "insertion": rise},
                GRADIENT: {"deletion": fall, "insertion": rise},
                RANDOM: {"deletion": line, "insertion": line[::-1]},
            }
            asked.append({"user": user, "history": 2, "apart": 3e-7, "curves": curves})
        record = {"data": "Online Retail", "model": model, "questions": asked}
        (tmp_path / f"{model}.json").write_text(json.dumps(record))
    report.write(tmp_path, tmp_path / "docs")
    text = (tmp_path / "docs" / "report.md").read_text()
    assert "12 users, 24 questions a model, histories of\n2 items in the mean." in text
    assert "| LinearFusion | ours | " in text
    assert f"| {np.mean(leads[:24]):+.3f} [+" in text
    assert f"| {np.mean(leads[24:]):+.3f} [+" in text
    assert (
        "Ours against random, deletion: the interval lies above 0 in 2 of\n  2 cases, below in 0"
        in text
    )
    assert "Ours against gradient x input, insertion: the interval lies above 0 in 0 of" in text
    assert "by at most 3e-07 of the largest" in text
    assert text.index("| LinearFusion |") < text.index("| FusionRecommender, mean |")
    pixels = imread(io.BytesIO((tmp_path / "docs" / "curves.png").read_bytes()))
    assert pixels.shape[1] > 500
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 10


def test_mean_curves_are_of_users_first():
    def record(user, middle):
        curves = {"ours": {"deletion": [1.0, middle, 0.0], "insertion": [0.0, middle, 1.0]}}
        return {"user": user, "history": 2, "apart": 0.0, "curves": curves}

    asked = [record(1, 0.0), record(1, 0.2), record(2, 0.5)]
    asked.append(
        {**record(2, 0.0), "curves": {"ours": {"deletion": [np.nan] * 3, "insertion": [0, 0, 1]}}}
    )
    panel = report.Panel.of({"data": "x", "model": "y", "questions": asked})
    curve = picture.mean_curve(panel, "ours", "deletion")
    assert curve[[0, 25, 50, 100]] == pytest.approx([1, 0.65, 0.3, 0])


def test_nothing_to_report(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the files of `run`, got none"):
        report.write(tmp_path, tmp_path / "docs")
