"""Which modality explanations of synthetic recommendations name first, against the truth."""

import json
import re

from synthetic import planted
from synthetic.contenders import World
from synthetic.encoding import encode

from fusionops.data import splits, synthetic
from fusionops.models import LinearFusion


def test_the_first_content_is_compared_with_the_truth():
    shop = synthetic.make(120, 80, purchases=20, missing=0.3, seed=3)
    split = splits.held_out_items(shop.interactions, 0.3, seed=0)
    world = World(shop, split, encode(shop, split.train))
    model = LinearFusion(neighbour_weight=0.0).fit(split.train, features=world.features)
    found = planted.asked(model, shop, split, "some missing", "new items", "LinearFusion")
    assert len(found.user) == len(found.planted) == len(found.known) == len(found.largest)
    assert len(found.user) >= 5 * len(set(found.user)) - 5
    assert sum(found.planted) / len(found.planted) > 0.5  # chance is a third


def test_shares_are_means_over_users_of_what_counts(tmp_path):
    found = planted.Found(
        "all", "warm", "LinearFusion",
        user=[0, 0, 1, 1],
        planted=[True, True, False, True],
        known=[True, True, True, False],
        largest=[True, False, False, False],
    )  # fmt: skip
    assert list(planted.section(tmp_path)) == []
    (tmp_path / "planted").mkdir()
    values = {"processor": "a CPU", "found": [vars(found)]}
    (tmp_path / "planted" / "found.json").write_text(json.dumps(values))
    row = list(planted.section(tmp_path))[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[3] == "3 of 4"
    assert re.match(r"50\.0%", cells[4])  # 1 of user 0, 0 of user 1; the unknown one is left out
    assert re.match(r"25\.0%", cells[5])
