"""What customers are told, in words."""

import numpy as np

from fusionops.cli.words import describe, draw_customers
from fusionops.data import IdMap, Interactions, Items
from fusionops.data.splits import last_fraction
from fusionops.models import LinearFusion


def test_a_customer_in_words():
    user = np.repeat(np.arange(6), 5)
    item = np.array([(i + i // 5) % 8 for i in range(30)])
    time = np.datetime64("2024-01-01", "ns") + np.arange(30) * np.timedelta64(1, "D")
    ids = IdMap([f"i{code}" for code in range(8)])
    shop = Interactions(user, item, IdMap(list("abcdef")), ids, time=time)
    items = Items(ids, text={"title": [f"thing {code}" for code in range(8)]})
    split = last_fraction(shop, 0.4)
    model = LinearFusion().fit(split.train, items)
    users = draw_customers(split, 2)
    assert users.tolist() == draw_customers(split, 2).tolist()
    for code, one in zip(users, describe(model, split, items, users, k=3), strict=True):
        mine = split.train.item[split.train.user == code]
        later = set(split.test.item[split.test.user == code].tolist())
        assert one.user == "abcdef"[code]
        assert one.had == [f"thing {p}" for p in mine[::-1]][:3]
        assert one.n_had == 3
        assert one.n_bought == 2
        assert len(one.recommended) == 3
        for text, hit in one.recommended:
            assert hit == (int(text.split()[1]) in later)
            assert text not in one.had
