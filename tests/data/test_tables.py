import gzip

import pyarrow as pa
import pytest
from pyarrow import parquet

from fusionops.data import InputError, read_table

CSV = "user,item,time\n001,mug,2011-09-01\n002,cup,2011-09-02\n"


def test_csv_tsv_gz_and_parquet_hold_the_same(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "a.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    table = read_table(tmp_path / "a.csv")
    parquet.write_table(table, tmp_path / "a.parquet")
    assert table.num_rows == 2
    for name in ("a.tsv", "a.csv.gz", "a.parquet"):
        assert read_table(tmp_path / name).to_pylist() == table.to_pylist()


def test_ids_with_leading_zeros_stay_text_on_request(tmp_path):
    (tmp_path / "a.csv").write_text(CSV)
    assert read_table(tmp_path / "a.csv")["user"].to_pylist() == [1, 2]
    table = read_table(tmp_path / "a.csv", strings=["user"])
    assert table["user"].to_pylist() == ["001", "002"]
    assert table.schema.field("user").type == pa.string()


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "absent.csv")
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"must end in \.parquet, \.pq, \.csv or \.tsv"):
        read_table(tmp_path / "a.xlsx")
    (tmp_path / "b.parquet").write_text("this is no parquet file")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        read_table(tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(InputError, match="cannot be read as csv") as raised:
        read_table(tmp_path / "c.csv")
    assert "\n" not in str(raised.value)
