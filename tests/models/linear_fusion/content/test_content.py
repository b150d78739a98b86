"""The kernel against a dense reference in float64, and what is missing."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.data import IdMap, Items
from fusionops.models.linear_fusion.content import Content


def self_kernel(content, items, encoded=None):
    features = content.features(items, encoded)
    return content.kernel(features, features)


def cosine_of_text(texts):
    char = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(texts)
    word = TfidfVectorizer().fit_transform(texts)
    return (char @ char.T).toarray() + 0.5 * (word @ word.T).toarray()


def centred_cosine(encoded):
    rows = encoded.vectors - encoded.vectors[encoded.present].mean(axis=0, dtype=np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[~encoded.present] = 0
    return rows @ rows.T


def test_kernel_is_the_sharpened_sum_of_tfidf_cosines(items):
    content = Content.fit(items, ["title"])
    expected = cosine_of_text(items.text["title"]) / 1.5
    np.testing.assert_allclose(self_kernel(content, items), expected**1.5, atol=2e-6)


def test_every_term_joins_with_its_weight(items, picture):
    content = Content.fit(
        items,
        encoded={"picture": picture},
        numeric={"price": ("log", 0.5)},
        weights={"picture": 0.4, "price": 0.2},
    )
    present = picture.present.astype(float)
    section = items.categorical["section"]
    price = np.log(items.numeric["price"])
    total = (
        cosine_of_text(items.text["title"])
        + 0.5 * (section[:, None] == section[None, :])
        + 0.4 * centred_cosine(picture)
        + 0.2 * np.exp(-(((price[:, None] - price[None, :]) / 0.5) ** 2) / 2)
    )
    length = np.sqrt(1.5 + 0.5 + 0.2 + 0.4 * present)
    cosine = total / length[:, None] / length[None, :]
    expected = np.sign(cosine) * np.abs(cosine) ** 1.5
    kernel = self_kernel(content, items, {"picture": picture})
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, expected, atol=3e-6)


def test_opposite_vectors_count_against_each_other(items, picture):
    content = Content.fit(items, [], encoded={"picture": picture})
    kernel = self_kernel(content, items, {"picture": picture})
    expected = centred_cosine(picture)
    assert expected.min() < -0.5
    np.testing.assert_allclose(kernel, np.sign(expected) * np.abs(expected) ** 1.5, atol=3e-6)


def test_blocks_of_rows_change_nothing(items, picture, monkeypatch):
    encoded = {"picture": picture}
    content = Content.fit(items, encoded=encoded)
    whole = self_kernel(content, items, encoded)
    monkeypatch.setattr("fusionops.models.linear_fusion.content.content._ENTRIES", 120)
    np.testing.assert_allclose(self_kernel(content, items, encoded), whole, atol=1e-6)


def test_two_without_a_modality_are_compared_as_if_it_did_not_exist(items, picture):
    gone = np.flatnonzero(~picture.present)
    encoded = {"picture": picture}
    with_picture = self_kernel(Content.fit(items, encoded=encoded), items, encoded)
    without = self_kernel(Content.fit(items), items)
    np.testing.assert_allclose(
        with_picture[np.ix_(gone, gone)], without[np.ix_(gone, gone)], atol=1e-6
    )


def test_one_without_a_modality_is_nearer_than_one_that_differs_in_it(items, picture):
    """Three items of the same columns: the second lacks a picture, the third has the opposite."""
    alike = Items(IdMap(["x", "y", "z"]), text={"title": ["red mug"] * 3})
    vectors = np.stack([picture.vectors[0], picture.vectors[0], -picture.vectors[0]])
    seen = type(picture)(alike.ids, vectors, np.array([True, False, True]))
    kernel = self_kernel(Content.fit(alike, encoded={"picture": seen}), alike, {"picture": seen})
    np.testing.assert_allclose(np.diag(kernel), 1.0, atol=1e-6)
    assert 1.0 > kernel[0, 1] > kernel[0, 2] + 0.1


def test_categories_join_the_texts(items):
    content = Content.fit(items, ["title", "section"])
    assert content.columns == ("title", "section")
    kernel = self_kernel(content, items)
    section = items.categorical["section"]
    same = self_kernel(Content.fit(items, ["section"]), items)
    np.testing.assert_allclose(same, section[:, None] == section[None, :], atol=1e-6)
    assert kernel[0, 2] > kernel[0, 1]
    np.testing.assert_allclose(np.diag(kernel), 1.0, atol=1e-6)


def test_an_item_without_anything_is_like_nothing(items, picture):
    blank = Items(
        IdMap(["x", "y"]),
        text={"title": [None, "red mug"]},
        numeric={"price": np.array([np.nan, np.nan])},
        categorical={"section": np.array([None, None], dtype=object)},
    )
    content = Content.fit(items, encoded={"picture": picture})
    features = content.features(blank)
    np.testing.assert_array_equal(features.present, [False, True])
    kernel = content.kernel(features, content.features(items, {"picture": picture}))
    assert (kernel[0] == 0).all()
    assert kernel[1].max() > 0.1


def test_nothing_said_is_no_content():
    blank = Items(IdMap(["x", "y"]), text={"title": [None, None]})
    assert Content.fit(blank) is None
    assert Content.fit(Items(IdMap(["x", "y"]))) is None
    same = Items(IdMap(["x", "y"]), numeric={"price": np.array([2.0, 2.0])})
    assert Content.fit(same) is None


def test_a_weight_of_0_leaves_a_term_out(items, picture):
    content = Content.fit(
        items, encoded={"picture": picture}, weights=dict.fromkeys(["char", "picture", "price"], 0)
    )
    assert [block.kind for block in content.blocks] == ["word", "category"]
    assert content.modalities == ()
    assert content.numeric == ()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"columns": ["colour"]},
            r"content: expected text, categorical or numeric columns of items "
            r"\('title', 'section', 'price'\), got 'colour'",
        ),
        (
            {"columns": ["title"], "numeric": {"price": ("log", None)}},
            r"numeric: expected numeric columns among the content \(none\), got 'price'",
        ),
        (
            {"weights": {"sound": 1.0}},
            r"weights: expected terms of the content .*'price', 'picture'\), got 'sound'",
        ),
    ],
)
def test_unknown_names_are_named(items, picture, asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        Content.fit(items, encoded={"picture": picture}, **asked)


@pytest.mark.parametrize("name", ["price", "word"])
def test_a_modality_has_a_name_of_its_own(items, picture, name):
    with pytest.raises(ValueError, match=f"features: expected names of modalities, got '{name}'"):
        Content.fit(items, encoded={name: picture})


def test_state_gives_the_same_bits(items, picture):
    encoded = {"picture": picture}
    content = Content.fit(items, encoded=encoded)
    again = Content.from_state(*content.state())
    np.testing.assert_array_equal(
        self_kernel(content, items, encoded), self_kernel(again, items, encoded)
    )


def test_features_come_back_and_are_cut_by_row(items, picture):
    content = Content.fit(items, encoded={"picture": picture})
    features = content.features(items, {"picture": picture})
    again = type(features).from_arrays(features.to_arrays())
    kernel = content.kernel(features, features)
    np.testing.assert_array_equal(content.kernel(again, features), kernel)
    rows = np.array([7, 2])
    assert len(features[rows]) == 2
    np.testing.assert_allclose(content.kernel(features[rows], features[3:9]), kernel[rows, 3:9],
                               atol=1e-6)  # fmt: skip


def test_terms_add_up_to_the_kernel(items, picture):
    encoded = {"picture": picture, "text": picture}
    content = Content.fit(items, encoded=encoded)
    features = content.features(items, encoded)
    terms = content.terms(features[5:9], features)
    assert set(terms) == {"text", "category", "picture", "price"}
    np.testing.assert_allclose(
        sum(terms.values()), content.kernel(features[5:9], features), atol=2e-6
    )
    # A modality that is called text adds to the text; both are shares of one cosine.
    shares = terms["picture"] / sum(terms.values())
    other = Content.fit(items, encoded={"picture": picture, "sound": picture})
    of_other = other.features(items, {"picture": picture, "sound": picture})
    apart = other.terms(of_other[5:9], of_other)
    np.testing.assert_allclose(terms["text"], apart["text"] + apart["sound"], atol=2e-6)
    expected = apart["picture"] / sum(apart.values())
    np.testing.assert_allclose(shares, expected, rtol=1e-4, atol=1e-6)


def test_terms_of_opposite_signs_and_of_nothing(items, picture):
    """They add up, and what has no content has none of any term."""
    ids = IdMap([*items.ids.ids.tolist(), "blank"])
    columns = {"price": np.append(items.numeric["price"], np.nan)}
    every = Items(ids, numeric=columns)
    content = Content.fit(every, encoded={"picture": picture}, weights={"price": 0.05})
    features = content.features(every, {"picture": picture})
    terms, kernel = content.terms(features, features), content.kernel(features, features)
    assert kernel.min() < -0.5
    np.testing.assert_allclose(sum(terms.values()), kernel, atol=2e-6)
    assert (terms["price"] >= 0).all()
    for term in terms.values():
        assert not term[-1].any()
        assert not term[:, -1].any()


def test_rows_are_appended(items, picture):
    encoded = {"picture": picture}
    content = Content.fit(items, encoded=encoded)
    whole = content.features(items, encoded)
    first, none, rest = whole[:11], whole[:0], whole[11:]
    for joined in (first.append(none).append(rest), none.append(whole)):
        assert len(joined) == len(items)
        for name, array in joined.to_arrays().items():
            np.testing.assert_array_equal(array, whole.to_arrays()[name], err_msg=name)
