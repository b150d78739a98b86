"""Features of text and categories, and the kernel over them."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.data import IdMap, Items
from fusionops.models.linear_fusion.content import Content


def test_kernel_is_the_sharpened_sum_of_tfidf_cosines(items):
    content = Content.fit(items, ["title"])
    features = content.features(items)
    kernel = content.kernel(features, features)
    char = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(
        items.text["title"]
    )
    word = TfidfVectorizer().fit_transform(items.text["title"])
    expected = ((char @ char.T).toarray() + 0.5 * (word @ word.T).toarray()) / 1.5
    np.testing.assert_allclose(kernel, expected**1.5, atol=2e-6)


def test_categories_join_the_texts(items):
    content = Content.fit(items, None)
    assert content.columns == ("title", "section")
    kernel = content.kernel(content.features(items), content.features(items))
    alone = Content.fit(items, ["section"])
    same = alone.kernel(alone.features(items), alone.features(items))
    section = items.categorical["section"]
    np.testing.assert_allclose(same, section[:, None] == section[None, :], atol=1e-6)
    assert kernel[0, 2] > kernel[0, 1]
    np.testing.assert_allclose(np.diag(kernel), 1.0, atol=1e-6)


def test_missing_text_is_an_empty_row(items):
    gone = Items(IdMap(["x", "y"]), text={"title": [None, "red mug"]})
    content = Content.fit(items, ["title"])
    features = content.features(gone)
    assert features[[0]].nnz == 0
    assert features[[1]].nnz > 0


def test_no_column_is_no_content():
    bare = Items(IdMap(["x", "y"]), numeric={"price": np.array([1.0, 2.0])})
    assert Content.fit(bare, None) is None
    blank = Items(IdMap(["x", "y"]), text={"title": [None, None]})
    assert Content.fit(blank, None) is None


def test_unknown_column_is_named(items):
    with pytest.raises(ValueError, match=r"content: expected .*'title', 'section'.*'price'"):
        Content.fit(items, ["price"])


def test_state_gives_the_same_bits(items):
    content = Content.fit(items, None)
    again = Content.from_state(*content.state())
    assert (content.features(items) != again.features(items)).nnz == 0
