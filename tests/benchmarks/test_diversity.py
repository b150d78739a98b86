"""The trade-off of accuracy and variety: its figures by hand, and the whole of it on made data."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from diversity import curve, example, picture, report
from matplotlib.image import imread
from scipy import sparse

from fusionops.data import IdMap, Interactions, Items
from fusionops.evaluation import Difference, evaluate
from fusionops.models import LinearFusion

ROOT = Path(__file__).resolve().parents[2]
N_USERS, N_ITEMS = 40, 90
COLOURS = ("red", "blue", "green")
THINGS = [f"{material} {thing}" for thing in ("mug", "box", "card") for material in "abcdefghij"]


def shop():
    """Purchases within one of three kinds; an item comes in three colours."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(N_USERS), 25)
    item = rng.integers(0, N_ITEMS // 3, len(user)) + N_ITEMS // 3 * (user % 3)
    ids = IdMap([f"i{code:02d}" for code in range(N_ITEMS)])
    text = [f"{COLOURS[code % 3]} {THINGS[code // 3]}" for code in range(N_ITEMS)]
    hour = np.tile(np.arange(25), N_USERS)
    interactions = Interactions(
        user=user,
        item=item.astype(np.int64),
        users=IdMap([f"u{code:02d}" for code in range(N_USERS)]),
        items=ids,
        time=np.datetime64("2024-01-01", "ns") + hour * np.timedelta64(1, "h"),
        session=user * 25 + hour // 2,
    )
    return interactions, Items(ids=ids, text={"title": text})


@pytest.fixture(scope="module")
def items():
    return shop()[1]


@pytest.fixture(scope="module", params=["next_visit", "warm"])
def found(request, items):
    return curve.measure(
        shop()[0],
        items,
        request.param,
        grid=(0.0, 0.3, 0.5, 1.0),
        new_model=lambda: LinearFusion(rank=8),
    )


def point(diversify, change, **figures):
    known = dict.fromkeys(("ndcg", "recall", "own_diversity", "repeats", "coverage", "gini"), 0.5)
    figures = {**known, "text_diversity": diversify, **figures}
    return curve.Point(diversify, figures, Difference(change, change - 0.01, change + 0.01, 1.0))


def test_the_largest_setting_within_the_loss_is_chosen():
    points = [point(0, 0.0), point(0.1, -0.02), point(0.2, -0.009), point(0.3, -0.01)]
    assert curve.chosen(points) == 0.2
    assert curve.chosen([*points, point(0.4, 0.03)]) == 0.4
    assert curve.chosen(points[:2]) == 0


def test_a_change_is_a_share_of_the_baseline():
    found = curve.relative_change(np.array([0.25, 0.5]), np.array([0.5, 0.75]))
    assert found.mean == found.low == found.high == pytest.approx(-0.4)


def test_repeats_by_hand():
    words = np.array([[1, 1, 0, 0], [1, 0.9, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1.8]])
    unit = words / np.linalg.norm(words, axis=1, keepdims=True)
    alike = curve.resembling(sparse.csr_array(unit))
    assert alike.astype(int).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
    ]
    lists = np.array([[2, 0, 1], [2, 3, -1], [-1, -1, -1]])
    assert curve.repeated(lists, alike).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    three_of_a_kind = curve.repeated(np.array([[0, 1, 2]]), np.ones((3, 3), bool))
    assert three_of_a_kind.tolist() == [[0, 1, 1]]


def test_the_points_are_what_the_model_lists(found):
    question = found.question
    for point in found.points:
        ranked = curve.lists(found.model, question, question.split.users, point.diversify)
        expected = evaluate(ranked, question.split, curve.K)
        assert point.figures["ndcg"] == expected["ndcg"]
        assert point.figures["coverage"] == expected.coverage
        share = expected["ndcg"] / found.points[0].figures["ndcg"] - 1
        assert point.change.mean == pytest.approx(share, abs=1e-12)
        assert point.change.low <= point.change.mean <= point.change.high


def test_the_lists_become_more_varied(found):
    for points in (found.points, found.validation_points):
        own = [point.figures["own_diversity"] for point in points]
        assert own == sorted(own)
        assert own[0] < own[-1]
        assert points[0].figures["repeats"] > points[-1].figures["repeats"]


def test_nothing_is_chosen_on_the_test(found):
    setting = curve.chosen(found.validation_points)
    assert found.named.diversify == setting
    held_out = found.validation.split.test.first_pairs()
    train = found.question.split.train.matrix()
    assert train[held_out.user, held_out.item].all()
    assert not found.validation.split.train.matrix()[held_out.user, held_out.item].any()


def test_a_grid_begins_with_what_is_compared_with(found, items):
    with pytest.raises(
        ValueError, match=r"grid: expected settings that begin with 0, got \[0\.5\]"
    ):
        curve.curve(found.model, found.question, sparse.csr_array((N_ITEMS, 1)), [0.5])


def test_the_report_says_it_all(found, items):
    customer = example.draw(found, items, (0.0, 1.0))
    text = report.markdown([found], customer, "a machine", "a command")
    named = found.named
    assert "`a command`, on\na machine." in text
    assert f"| {found.question.label} | **{named.diversify:g}** | " in text
    assert report.interval(named.change) in text
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        assert len({row.count("|") for row in table.splitlines()}) == 1
    plain = report.as_json([found], customer, "a machine")
    measured = plain["questions"][found.question.protocol]
    assert measured["named"] == named.diversify
    assert [one["diversify"] for one in measured["validation"]] == [0.0, 0.3, 0.5, 1.0]


def test_the_customer_is_drawn_and_the_lists_are_the_models(found, items):
    customer = example.draw(found, items, (0.0, 1.0))
    assert customer == example.draw(found, items, (0.0, 1.0))
    split = found.question.split
    user = split.train.users.encode([customer.customer])
    ranked = curve.lists(found.model, found.question, user, 1.0)[0]
    bought = split.test.item[split.test.user == user[0]]
    texts = items.take(split.train.items).text["title"]
    shown = customer.columns[1.0]
    assert [one.text for one in shown] == [texts[code] for code in ranked]
    assert [one.bought for one in shown] == np.isin(ranked, bought).tolist()
    assert not shown[0].repeats


def test_a_typical_list_repeats_as_the_average_does(found):
    alike = curve.resembling(found.texts)
    users = example.typical(found, alike)
    every = curve.lists(found.model, found.question, found.question.split.users, 0.0)
    counts = curve.repeated(every, alike).sum(axis=1)
    of_typical = counts[np.isin(found.question.split.users, users)]
    assert 0 < len(users) < len(counts)
    assert np.abs(of_typical - counts.mean()).max() == np.abs(counts - counts.mean()).min()


def test_marks_of_new_repeated_and_bought_items():
    mug = example.Shown("mug", repeats=False, bought=True)
    again = example.Shown("red mug", repeats=True, bought=False)
    other = example.Shown("card", repeats=True, bought=False)
    columns = {0.0: [mug, again], 0.5: [mug, other]}
    rows = list(example.table(example.Example("7", [], columns)))
    assert rows[0] == "| | diversify 0 | diversify 0.5 |"
    assert rows[2:4] == ["| 1 | mug ✓ | mug ✓ |", "| 2 | *red mug* | ***card*** |"]
    assert rows[4] == "| repeats | 1 | 1 |"


def test_the_picture_is_one(found):
    first = imread(io.BytesIO(picture.draw([found])))
    both = imread(io.BytesIO(picture.draw([found, found])))
    assert first.shape[1] == both.shape[1]
    assert both.shape[0] > 1.5 * first.shape[0]
    named = np.array([0xD5, 0x5E, 0x00]) / 255
    assert (np.abs(first[..., :3] - named).max(axis=2) < 0.02).sum() > 200


def test_every_figure_of_the_page_is_one_of_the_report():
    """The page for people quotes; it holds no figure of its own."""
    page = (ROOT / "docs" / "diversity.md").read_text(encoding="utf-8")
    measured = (ROOT / "docs" / "diversity" / "report.md").read_text(encoding="utf-8")
    figures = re.compile(r"(?<![\w.])[+-]?\d+\.\d+")
    quoted = set(figures.findall(page))
    assert len(quoted) > 20
    assert quoted - set(figures.findall(measured)) == set()
    example = measured[measured.index("Customer ") :]
    assert example[example.index("| |") :] in page
