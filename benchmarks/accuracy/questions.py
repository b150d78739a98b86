"""What is asked of the models: the protocols of Online Retail by the training part they share."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from fusionops.cli.comparison import Question, ask
from fusionops.data import Encoded, Interactions, Items, online_retail
from fusionops.evaluation.protocols import ONLINE_RETAIL_DATES

GROUPS = ("warm", "next_visit", *ONLINE_RETAIL_DATES)
"""A training part each; a date's is shared by cold items and one list."""

_SPELLING_WIDTH = 128


def data() -> tuple[Interactions, Items]:
    """The interactions and the items of Online Retail."""
    return online_retail.load()


def questions(interactions: Interactions, group: str) -> list[Question]:
    """The questions over one training part."""
    if group in ("warm", "next_visit"):
        return ask(interactions, group, ())
    return [*ask(interactions, "cold", [group]), *ask(interactions, "one_list", [group])]


def spelling(train: Interactions, items: Items) -> Encoded:
    """What LinearFusion reads of a text, as vectors for the network: character n-grams.

    TF-IDF of n-grams of 3 to 5 within words and its singular vectors, both learned on the items
    with history alone: an item that comes later is only read.
    """
    texts = items.take(train.items).text["description"]
    present = np.array([text is not None for text in texts])
    filled = [text or "" for text in texts]
    has_history = np.bincount(train.item, minlength=len(train.items)) > 0
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32)
    known = vectorizer.fit_transform([filled[p] for p in np.flatnonzero(has_history)])
    reduced = TruncatedSVD(_SPELLING_WIDTH, random_state=0).fit(known)
    vectors = reduced.transform(vectorizer.transform(filled)).astype(np.float32)
    return Encoded(train.items, vectors, present)
