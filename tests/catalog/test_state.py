"""Any sequence of changes against a model of a few lines: a list in order of insertion."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fusionops.catalog import Catalog

WIDTH = 3
# Few values, so that ties are the rule.
ROW = st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0]), min_size=WIDTH, max_size=WIDTH)


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.model: dict[object, list[float]] = {}  # insertion order is the dictionary's
        self.next = 0

    def teardown(self):
        self.folder.cleanup()

    def name(self):
        self.next += 1
        number = self.next * 37 % 101 + 101 * self.next
        return f"n{number}" if self.strings else number

    @initialize(
        rows=st.lists(ROW, max_size=70),
        dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
        normalization=st.sampled_from(["none", "diagonal", "cosine"]),
        strings=st.booleans(),
    )
    def build(self, rows, dtype, normalization, strings):
        self.strings, self.settings = strings, {"dtype": dtype, "normalization": normalization}
        self.model = {self.name(): row for row in rows}
        self.catalog = Catalog.build(
            np.reshape(rows, (len(rows), WIDTH)), list(self.model), **self.settings
        )

    def some(self, data, least=0):
        ids = st.lists(st.sampled_from(list(self.model)), unique=True, min_size=least)
        return data.draw(ids) if self.model else []

    @rule(rows=st.lists(ROW, max_size=40))
    def add(self, rows):
        new = {self.name(): row for row in rows}
        self.catalog.add(np.reshape(rows, (len(rows), WIDTH)), list(new))
        self.model |= new

    @rule(data=st.data())
    def update(self, data):
        ids = self.some(data)
        rows = [data.draw(ROW) for _ in ids]
        self.catalog.update(ids, np.reshape(rows, (len(rows), WIDTH)))
        self.model.update(zip(ids, rows, strict=True))

    @rule(data=st.data())
    def remove(self, data):
        ids = self.some(data)
        self.catalog.remove(ids)
        for id_ in ids:
            del self.model[id_]

    @rule(mapped=st.booleans())
    def save_and_load(self, mapped):
        path = Path(self.folder.name) / "catalog.safetensors"
        self.catalog.save(path)
        self.catalog = Catalog.load(path, mmap=mapped)

    @rule(data=st.data())
    def filter(self, data):
        ids = self.some(data)
        self.catalog = self.catalog.filter(ids)
        self.model = {id_: row for id_, row in self.model.items() if id_ in ids}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def failed_changes_change_nothing(self, data):
        known = self.some(data, least=1)
        with pytest.raises(ValueError, match="expected new ids"):
            self.catalog.add(np.zeros((len(known) + 1, WIDTH)), [self.name(), *known])
        with pytest.raises(KeyError):
            self.catalog.remove([*known, self.name()])
        with pytest.raises(KeyError):
            self.catalog.update([*known, self.name()], np.zeros((len(known) + 1, WIDTH)))

    @rule(user=ROW, k=st.integers(1, 9), data=st.data())
    def search(self, user, k, data):
        exclude = self.some(data)
        allowed = self.some(data) if data.draw(st.booleans()) else None
        if allowed is not None and data.draw(st.booleans()):
            allowed = np.isin(np.arange(len(self.model)), data.draw(st.sets(st.integers(0, 80))))
        scores, ids = self.catalog.search([user], k, [exclude], allowed)
        fresh = Catalog.build(
            np.reshape(list(self.model.values()), (len(self.model), WIDTH)),
            list(self.model),
            normalization=self.settings["normalization"],
        )
        everything, order = fresh.search([user], max(1, len(self.model)))
        listed = set(self.model) if allowed is None else set(allowed)
        if isinstance(allowed, np.ndarray):
            listed = {id_ for id_, one in zip(self.model, allowed, strict=True) if one}
        listed -= set(exclude)
        expected = [
            (score, id_)
            for score, id_ in zip(everything[0].tolist(), order[0].tolist(), strict=True)
            if id_ in listed
        ][:k]
        pad = [(-np.inf, None if self.strings and self.model else ids[0, -1])]
        expected += pad * (k - len(expected))
        assert list(zip(scores[0].tolist(), ids[0].tolist(), strict=True)) == expected

    @invariant()
    def same_items(self):
        if not hasattr(self, "catalog"):
            return
        assert self.catalog.ids.tolist() == list(self.model)
        assert len(self.catalog) == len(self.model)
        rows = np.reshape(list(self.model.values()), (len(self.model), WIDTH))
        np.testing.assert_array_equal(self.catalog.vectors(list(self.model)), rows)


TestStates = Machine.TestCase
TestStates.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)
