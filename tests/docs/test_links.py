"""Links between files of the repository as links between pages."""

import pytest
from links import relinked


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("index.md", "[a](docs/design.md#b)", "[a](design.md#b)"),
        ("index.md", "![a](docs/quickstart.png)", "![a](quickstart.png)"),
        ("index.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("adding-an-op.md", "[a](../README.md#b)", "[a](index.md#b)"),
        ("performance/report.md", "[a](../../benchmarks/README.md)", "[a](../benchmarks.md)"),
        ("design.md", "[a](../fusionops/files.py)", "a"),
        ("ops/x.md", "[a](../performance.md)", "[a](../performance.md)"),
        ("design.md", "[a](../nowhere.md)", "[a](../nowhere.md)"),
        ("design.md", "[a](https://example.org/README.md)", "[a](https://example.org/README.md)"),
        ("design.md", "[a](#b)", "[a](#b)"),
        ("index.md", "```\n[a](docs/design.md)\n```", "```\n[a](docs/design.md)\n```"),
    ],
)
def test_relinked(page, link, expected):
    assert relinked(link, page) == expected
