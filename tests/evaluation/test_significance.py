import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusionops.evaluation import Evaluation, compare, holm, paired_difference


def evaluation(model, ndcg, protocol="warm", k=20, users=None):
    ndcg = np.asarray(ndcg, dtype=np.float64)
    users = np.arange(len(ndcg)) if users is None else users
    per_user = {"ndcg": ndcg, "recall": ndcg / 2}
    return Evaluation(model, protocol, k, users, per_user, 0.5, 0.5, 1.0)


def test_the_interval_is_that_of_resampled_users():
    rng = np.random.default_rng(0)
    baseline = rng.random(300)
    values = baseline + rng.normal(0.02, 0.1, 300)
    found = paired_difference(values, baseline, resamples=4000)
    difference = values - baseline
    means = difference[rng.integers(0, 300, (4000, 300))].mean(axis=1)
    assert found.mean == pytest.approx(difference.mean())
    np.testing.assert_allclose(
        [found.low, found.high], np.percentile(means, [2.5, 97.5]), atol=0.001
    )
    assert found.p_value == pytest.approx(stats.ttest_rel(values, baseline).pvalue)
    assert found == paired_difference(values, baseline, resamples=4000)
    wider = paired_difference(values, baseline, confidence=0.99)
    assert wider.low < found.low < found.high < wider.high


def test_pairing_finds_what_unpaired_samples_hide():
    rng = np.random.default_rng(1)
    baseline = rng.random(500)
    values = baseline + rng.normal(0.01, 0.02, 500)
    assert paired_difference(values, baseline).p_value < 1e-6
    assert stats.ttest_ind(values, baseline).pvalue > 0.05


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        difference = rng.exponential(1.0, 100) - 1.0
        found = paired_difference(difference, np.zeros(100), resamples=300)
        inside += found.low <= 0.0 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


def test_equal_models_differ_by_nothing():
    same = paired_difference(np.full(5, 0.3), np.full(5, 0.3))
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    shifted = paired_difference(np.ones(5), np.zeros(5))
    assert (shifted.low, shifted.high, shifted.p_value) == (1.0, 1.0, 0.0)


def test_holm_by_hand():
    # 4 x .01, 3 x .013, 2 x .03 and 1 x .04, each at least the one before.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.013]), [0.06, 0.04, 0.06, 0.04])
    assert holm([]).tolist() == []
    assert holm([0.9, 0.8]).max() == 1.0
    with pytest.raises(ValueError, match=r"numbers in \[0, 1\]"):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values):
    p = np.array(p_values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1.0, p * len(p))).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_compare_is_a_table_per_protocol_metric_and_model():
    rng = np.random.default_rng(3)
    base, cold = rng.random(50), rng.random(40)
    evaluations = [
        evaluation("EASE", base),
        evaluation("Fusion", base + 0.1 + rng.normal(0, 0.01, 50)),
        evaluation("Random", base + rng.normal(0, 0.2, 50)),
        evaluation("EASE", cold, "cold"),
        evaluation("Fusion", cold, "cold"),
    ]
    table = compare(evaluations, "EASE", metrics=["ndcg", "recall"])
    rows = table.to_pylist()
    assert [(row["protocol"], row["model"], row["metric"]) for row in rows] == [
        ("warm", "Fusion", "ndcg"),
        ("warm", "Fusion", "recall"),
        ("warm", "Random", "ndcg"),
        ("warm", "Random", "recall"),
        ("cold", "Fusion", "ndcg"),
        ("cold", "Fusion", "recall"),
    ]
    for row in rows:
        assert row["difference"] == pytest.approx(row["mean"] - row["baseline"])
        assert row["low"] <= row["difference"] <= row["high"]
    assert rows[0]["low"] > 0
    assert rows[4]["p_value"] == rows[4]["p_holm"] == 1.0
    np.testing.assert_allclose(table["p_holm"].to_numpy(), holm(table["p_value"].to_numpy()))


def test_errors():
    one = evaluation("A", [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="'EASE' must come once in protocol 'warm', got 0"):
        compare([one], "EASE")
    other = evaluation("EASE", [0.1, 0.2, 0.3], users=np.array([4, 5, 6]))
    with pytest.raises(ValueError, match="must share their users and k in protocol 'warm'"):
        compare([one, other], "EASE")
    with pytest.raises(ValueError, match=r"of the same users, got shapes \[3\] and \[2\]"):
        paired_difference(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="two users or more, got 1"):
        paired_difference(np.zeros(1), np.zeros(1))
