"""The tables of an operator, from a file of results."""

import json

import measured
import pytest

ROW = {"operator": "op", "shape": [10, 1000, 64], "direction": "forward"}
AXES = {"ours": ["fusionops"], "axes": ["U", "P", "D"], "grows": "P"}


@pytest.fixture
def data(tmp_path):
    native = {"isa": "avx2", "compiler": "GNU 12"}
    machine = {"processor": "a processor", "torch_threads": 2, "torch": "2.13.0"}
    results = {
        "machine": {**machine, "native": native, "fusionops": "0.1.0"},
        "rates": {},
        "operators": [
            {"name": "op", "title": "what it is", **AXES},
            {"name": "op, other", "title": "another way", **AXES, "axes": ["B", "M", "D"]},
            {"name": "late", "title": "not timed", **AXES},
        ],
        "measurements": [
            {
                **ROW,
                "contender": "fusionops",
                "median": 0.002,
                "bound": 0.001,
                "bound_by": "memory",
            },
            {**ROW, "contender": "eager", "median": 0.005, "peak_bytes": 2**21},
            {**ROW, "contender": "faiss", "reason": "it cannot be imported"},
            {**ROW, "operator": "op, other", "contender": "fusionops", "median": 0.003},
        ],
    }
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results))
    return (file,)


def test_table_machine_and_command(data):
    found = measured.section("op", data)
    assert "`fusionops bench op`" in found
    assert "a processor, 2 threads" in found
    assert "| eager | 5.00 | - | 2.50 | 2.0 |" in found
    assert "| 50 | memory |" in found
    assert "faiss: it cannot be imported" in found
    assert "| U x P x D |" in found
    assert "Another way" in found
    assert "| B x M x D |" in found


@pytest.mark.parametrize("name", ["late", "unknown"])
def test_not_measured(name, data):
    found = measured.section(name, data)
    assert found == f"Not measured yet: `fusionops bench {name}` measures it."
