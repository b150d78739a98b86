from fusionops.data import IdMap, Items


def test_an_item_is_called_by_its_first_text_or_else_its_id():
    text = {"title": [None, "red mug", ""], "note": [None, "chipped", "blue"]}
    items = Items(IdMap(["a", "b", "c"]), text=text)
    assert [items.label(code) for code in range(3)] == ["a", "red mug", "blue"]
