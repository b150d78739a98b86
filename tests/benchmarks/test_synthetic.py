"""The synthetic benchmark: nothing is chosen on a test part, and shares are what they say."""

import json

import numpy as np
import pytest
from synthetic import bounds, encoding, jobs, questions, report
from synthetic.concatenation import Concatenation
from synthetic.contenders import CONCATENATION, CONTENDERS, LEARNABLE, ORACLE, Contender, World

from fusionops.data import splits, synthetic
from fusionops.evaluation import Random, evaluate


@pytest.fixture(scope="module")
def world():
    shop = synthetic.make(120, 150, purchases=25, missing=0.3, seed=2)
    split = splits.last_fraction(shop.interactions)
    return World(shop, split, encoding.encode(shop, split.train))


def ndcg(model, split):
    _, ranked = model.rank(split.users, 20, candidates=split.candidates)
    return evaluate(ranked, split, 20)["ndcg"]


@pytest.mark.parametrize("question", questions.QUESTIONS)
def test_what_is_chosen_on_is_within_the_training_part(question):
    test, validation = (of("all", question) for of in (questions.asked, questions.validation))
    pairs = [
        set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))
        for rows in (test.train, test.test, validation.train, validation.test)
    ]
    assert pairs[2] | pairs[3] <= pairs[0]
    assert not pairs[1] & pairs[0]
    if question == "new items":
        assert not np.isin(test.train.item, test.candidates).any()
        assert not np.isin(validation.train.item, validation.candidates).any()
        assert not np.isin(validation.candidates, test.candidates).any()


def test_both_settings_have_the_same_purchases():
    train = [questions.asked(setting, "warm").train for setting in questions.SETTINGS]
    np.testing.assert_array_equal(train[0].item, train[1].item)


def test_features_are_centred_scaled_and_zero_where_missing(world):
    known = np.bincount(world.split.train.item, minlength=150) > 0
    for name, one in world.features.items():
        np.testing.assert_array_equal(one.present, world.shop.present[name])
        assert not one.vectors[~one.present].any()
        fitted = one.vectors[one.present & known]
        np.testing.assert_allclose(fitted.mean(axis=0), 0, atol=1e-5)
        assert np.mean(fitted**2) == pytest.approx(1, abs=1e-4)


def test_features_of_new_items_do_not_touch_those_of_others(world):
    train = splits.held_out_items(world.shop.interactions, 0.3).train
    whole = encoding.encode(world.shop, train)
    known = np.bincount(train.item, minlength=150) > 0
    blind = synthetic.make(120, 150, purchases=25, missing=0.3, seed=2)
    blind.pictures[~known] = 255
    blind.sounds[~known] = 1
    blind.items.text["description"][:] = [
        text if there or text is None else "antique neon"
        for text, there in zip(blind.items.text["description"], known, strict=True)
    ]
    for name, one in encoding.encode(blind, train).items():
        np.testing.assert_array_equal(one.vectors[known], whole[name].vectors[known])


def test_bounds(world):
    shop, split = world.shop, world.split
    oracle = bounds.Known(split.train, bounds.tastes(shop), bounds.factors(shop))
    scores, ranked = oracle.rank(split.users, 150)
    np.testing.assert_allclose(
        scores[3, :5], shop.affinity(split.users[3:4])[0, ranked[3, :5]], rtol=1e-12
    )
    seen = split.train.matrix().toarray()[split.users] > 0
    assert not np.take_along_axis(seen, ranked[:, :20], axis=1).any()
    present = bounds.Known(
        split.train, bounds.tastes(shop), bounds.factors(shop, only_present=True)
    )
    learned = bounds.estimated_tastes(split.train, bounds.factors(shop), 4.0)
    learnable = bounds.Known(split.train, learned, bounds.factors(shop))
    chance = ndcg(Random().fit(split.train), split)
    assert ndcg(oracle, split) > ndcg(learnable, split) > 2 * chance
    assert ndcg(oracle, split) > ndcg(present, split) > 2 * chance
    read = bounds.read_factors(shop, world.features, split.train)
    there = np.stack([shop.present[name] for name in shop.modalities], axis=1)
    assert not read[~there].any()
    assert np.corrcoef(read[there].ravel(), bounds.factors(shop)[there].ravel())[0, 1] > 0.8
    # The planted modality is found in most histories.
    length = np.linalg.norm(learned, axis=2)
    assert np.mean(length.argmax(axis=1) == shop.truth.main) > 0.8


@pytest.mark.parametrize("ids", [True, False])
def test_concatenation_learns_and_offers_only_what_is_asked(world, ids):
    split = world.split
    model = Concatenation(world.features, 16, ids)
    model.fit(split.train, learning_rate=3e-3, epochs=25, seed=1)
    assert ndcg(model, split) > 2 * ndcg(Random().fit(split.train), split)
    candidates = np.arange(40, 80)
    scores, ranked = model.rank(split.users, 20, candidates=candidates)
    offered = np.isfinite(scores)
    seen = split.train.matrix().toarray()[split.users] > 0
    assert np.isin(ranked[offered], candidates).all()
    assert not np.take_along_axis(seen, ranked, axis=1)[offered].any()


def test_the_best_choice_and_the_best_epoch_are_taken(world):
    oracle = bounds.Known(world.split.train, bounds.tastes(world.shop), bounds.factors(world.shop))
    chance = Random().fit(world.split.train)

    def fit(world, choice, seed, epochs, look):
        for epoch in range(1, epochs + 1):
            look(epoch, oracle if choice["good"] and epoch == 15 else chance)

    contender = Contender("single", fit, lambda _: [{"good": False}, {"good": True}], trained=True)
    chosen = jobs.choose(contender, "warm", world)
    assert (chosen.choice, chosen.epochs) == ({"good": True}, 15)
    assert chosen.ndcg == ndcg(oracle, world.split)


def test_every_job_has_a_file_of_its_own(tmp_path):
    found = list(jobs.all_jobs())
    assert len({job.file(tmp_path) for job in found}) == len(found)
    assert {job.contender for job in found} == set(CONTENDERS)
    for job in found:
        assert len(CONTENDERS[job.contender].choices(job.question)) >= 1


def test_share_of_gain():
    single = np.random.default_rng(0).random(400)
    columns = np.stack([single + 0.3, single, single + 0.4], axis=1)
    np.testing.assert_allclose(report.share_of_gain(columns), 0.75)
    columns[:, 0] += np.random.default_rng(1).normal(0, 0.2, 400)
    share, low, high = report.share_of_gain(columns)
    assert low < share < high
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / 20 / 0.4, rel=0.2)


def test_the_report_says_what_the_figures_say(tmp_path):
    level = {"bound": 0.9, "baseline": 0.1, "single": 0.2, "concatenation": 0.3, "hybrid": 0.4}
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    for place, job in enumerate(jobs.all_jobs()):
        kind = CONTENDERS[job.contender].kind
        values = (level[kind] - 0.0001 * place + np.roll(noise, place)).tolist()
        record = {
            "setting": job.setting,
            "question": job.question,
            "contender": job.contender,
            "choice": {},
            "epochs": None,
            "validation_ndcg": 0.5,
            "ndcg": [values],
            "recall": [values],
            "seconds": 1.0,
            "processor": "an abacus",
        }
        job.file(tmp_path).write_text(json.dumps(record))
    report.write(tmp_path, tmp_path / "docs")
    text = (tmp_path / "docs" / "report.md").read_text()
    assert "synthetic" in text
    assert "an abacus" in text
    assert text.count("not reached") == len(questions.SETTINGS) * len(questions.QUESTIONS)
    assert text.count("\n## ") == 5
    row = next(line for line in text.splitlines() if line.startswith("| FusionRecommender, deep"))
    difference = row.split("|")[6].split()
    assert float(difference[0]) == pytest.approx(0.2, abs=0.01)
    assert difference[-1] == "*"
    for name in (ORACLE, LEARNABLE, CONCATENATION):
        assert f"| {name} |" in text
