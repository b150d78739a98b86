from datetime import date, datetime, timezone

import numpy as np
import pyarrow as pa
import pytest

from fusionops.data.times import as_time, to_utc

NOON = np.datetime64("2011-09-01T12:00:00", "ns")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2011, 9, 1, 12)], pa.timestamp("us")),
        pa.array([datetime(2011, 9, 1, 12, tzinfo=timezone.utc)], pa.timestamp("s", "Asia/Tokyo")),
        pa.array(["2011-09-01T12:00:00"]),
        pa.array(["2011-09-01 12:00"]),
        pa.array(["2011-09-01 12:00:00", "?"])[:2],
        pa.array(["2011-09-01T14:00:00+02:00", "?"]),
        pa.array(["2011-09-01T12:00:00Z", "?"]),
        pa.array([1_314_878_400], pa.int64()),
        pa.array([1_314_878_400.0], pa.float64()),
    ],
)
def test_noon_in_every_form(column):
    assert to_utc(column).to_numpy(zero_copy_only=False)[0] == NOON


def test_dates_and_fractions_of_a_second():
    assert to_utc(pa.array([date(2011, 9, 1)])).to_numpy(zero_copy_only=False)[0] == NOON.astype(
        "datetime64[D]"
    )
    found = to_utc(pa.array([1.5])).to_numpy(zero_copy_only=False)[0]
    assert found == np.datetime64("1970-01-01T00:00:01.5", "ns")


def test_what_is_no_time_is_null():
    texts = to_utc(pa.array(["2011-09-01", "yesterday", None, "", "2011-13-01"]))
    assert texts.is_valid().to_pylist() == [True, False, False, False, False]
    numbers = to_utc(pa.array([0.0, float("nan"), float("inf"), 1e300]))
    assert numbers.is_valid().to_pylist() == [True, False, False, False]
    assert to_utc(pa.array([True])).null_count == 1


def test_as_time():
    assert as_time("2011-09-01") == np.datetime64("2011-09-01", "ns")
    assert as_time(date(2011, 9, 1)) == np.datetime64("2011-09-01", "ns")
    with pytest.raises(ValueError, match="expected a time such as '2011-09-01', got 'autumn'"):
        as_time("autumn")
