"""What a modality carries is what its factors say, and nothing of the others."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from fusionops.data import synthetic
from fusionops.data.synthetic import pictures, sounds, texts

TRAIN = 900


def statistics(shop):
    """A few numbers of the raw contents of each modality."""
    words = CountVectorizer().fit_transform(shop.items.text["description"]).toarray()
    blocks = shop.pictures.reshape(len(words), 8, 3, 8, 3, 3).mean(axis=(2, 4))
    power = np.abs(np.fft.rfft(shop.sounds)[:, :2000]) ** 2
    bands = np.log(power.reshape(len(words), 50, 40).sum(axis=2))
    return {"text": words, "image": blocks.reshape(len(words), -1), "audio": bands}


def readout(features, factors):
    """R^2 of each factor on items that the ridge regression has not seen."""
    features = StandardScaler().fit_transform(features)
    predicted = Ridge(30).fit(features[:TRAIN], factors[:TRAIN]).predict(features[TRAIN:])
    predicted, held_out = predicted.reshape(-1, factors.shape[1]), factors[TRAIN:]
    return 1 - ((predicted - held_out) ** 2).sum(axis=0) / (
        (held_out - held_out.mean(axis=0)) ** 2
    ).sum(axis=0)


@pytest.mark.parametrize("factors", [1, 4, synthetic.MAX_FACTORS])
def test_each_modality_shows_its_own_factors_and_no_others(factors):
    shop = synthetic.make(1, 1300, factors=factors, seed=factors)
    for name, features in statistics(shop).items():
        for of, truth in shop.truth.item.items():
            found = readout(features, truth)
            assert (found > 0.8 if of == name else found < 0.1).all(), (name, of, found)


def test_a_text_has_the_words_of_the_poles_that_its_factors_point_to():
    rng = np.random.default_rng(0)
    text, opposite = texts.render(np.array([[2.0, -2.0], [-2.0, 2.0]]), rng)
    rustic, sleek = set(texts.WORDS[0][:4]), set(texts.WORDS[0][4:])
    sombre, cheerful = set(texts.WORDS[1][:4]), set(texts.WORDS[1][4:])
    assert len(text.split()) == 3 + 3 + 4
    assert set(text.split()) - set(texts.FILLERS) <= sleek | sombre
    assert set(opposite.split()) - set(texts.FILLERS) <= rustic | cheerful


def test_no_word_stands_for_two_things():
    words = [word for of_factor in texts.WORDS for word in of_factor] + list(texts.FILLERS)
    assert len(set(words)) == len(words)


def test_a_picture_shows_its_factors():
    def rendered(**values):
        factors = np.zeros((1, 6))
        for name, value in values.items():
            factors[0, int(name[1])] = value
        return pictures.render(factors, np.random.default_rng(0))[0].astype(float)

    plain = rendered()
    red, green, _ = (rendered(f0=3) - plain).mean(axis=(0, 1))
    assert red > 25
    assert green < -25
    assert (rendered(f1=3) - plain)[..., 2].mean() > 25
    across = (rendered(f2=3) - plain).mean(axis=(0, 2))
    assert across[-1] > 20
    assert across[0] < -20
    disc = (rendered(f3=3) - plain).mean(axis=2)
    assert disc[12, 4:20].sum() > 150
    assert disc[0].mean() == 0
    down = (rendered(f4=3) - plain).mean(axis=(1, 2))
    assert down[-1] > 20
    assert down[0] < -20
    stripes = (rendered(f5=3) - plain).mean(axis=(0, 2))
    assert stripes[12] > 10
    assert stripes[6] < -10


def test_a_sound_has_the_partials_of_its_factors():
    sound = sounds.render(np.array([[2.0, -2.0]]), np.random.default_rng(0))
    assert sound.shape == (1, sounds.SAMPLES)
    assert sound.dtype == np.float32
    amplitude = np.abs(np.fft.rfft(sound[0])) * 2 / sounds.SAMPLES
    bin_of = {
        f: round(f * sounds.SAMPLES / sounds.RATE) for pair in sounds.FREQUENCIES for f in pair
    }
    (raised, lowered), (second_raised, second_lowered) = sounds.FREQUENCIES[:2]
    ratio = amplitude[bin_of[raised]] / amplitude[bin_of[lowered]]
    assert ratio == pytest.approx(np.exp(2), rel=0.15)
    ratio = amplitude[bin_of[second_raised]] / amplitude[bin_of[second_lowered]]
    assert ratio == pytest.approx(np.exp(-2), rel=0.15)
    absent = [amplitude[bin_of[f]] for pair in sounds.FREQUENCIES[2:] for f in pair]
    assert max(absent) < 0.002
