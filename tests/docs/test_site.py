"""The built site: a page for every operator, and nothing from elsewhere."""

import html
import re
from pathlib import Path

import pytest

pytest.importorskip("material", reason="needs pip install '.[docs]'")
pytest.importorskip("mkdocstrings_handlers.python", reason="needs pip install '.[docs]'")
griffe = pytest.importorskip("griffe", reason="needs pip install '.[docs]'")
generate = pytest.importorskip("generate", reason="needs pip install '.[docs]'")

PACKAGE = generate.load()
OPERATORS = list(generate.operators(PACKAGE))
# What reStructuredText leaves behind where nothing translated it.
LEFTOVERS = re.compile(r":[a-z]+:`|\.\. [a-z]+::|``|\$\$|<p>&gt;&gt;&gt;")


def article(site: Path, page: str) -> str:
    text = (site / page / "index.html").read_text(encoding="utf-8")
    return text[text.index("<article") : text.index("</article>")]


def test_operators_are_found():
    assert {"fusion_matrix", "fusion_topk", "fusion_contrastive"} <= set(OPERATORS)
    assert "skip_small_gradients" not in OPERATORS


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_page(name, site):
    page = article(site, f"ops/{name}")
    description, rest = page.split('<h2 id="api">')
    api, rest = rest.split('<h2 id="example">')
    example, measured = rest.split('<h2 id="measured">')
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in description
    assert f'<h3 id="fusionops.{name}"' in api
    assert "Parameters:" in api
    assert "Returns:" in api
    assert "&gt;&gt;&gt; " in example
    assert f"<code>fusionops bench {name}</code>" in measured
    assert "<table>" in measured or "Not measured yet" in measured
    assert f'href="{name}/"' in article(site, "ops")


def test_figures_are_those_of_the_report(site):
    """They are made of one file of results, by one function."""
    report = (generate.ROOT / "docs" / "performance" / "report.md").read_text(encoding="utf-8")
    tables = report.split("## fusion_topk\n")[1]
    row = next(line for line in tables.splitlines() if "| eager |" in line)
    page = re.sub(r"\s*<[^>]+>\s*", " ", article(site, "ops/fusion_topk"))
    assert " ".join(row.replace("|", " ").split()) in " ".join(page.split())


def test_no_markup_is_left_over(site):
    pages = [*site.glob("ops/*/"), *site.glob("api/*/")]
    found = {page: LEFTOVERS.findall(article(site, page.relative_to(site))) for page in pages}
    assert {page: marks for page, marks in found.items() if marks} == {}


def test_references_lead_to_pages(site):
    page = article(site, "ops/fusion_topk")
    assert 'href="../fusion_matrix/#fusionops.fusion_matrix"' in page


def test_api_pages(site):
    assert 'id="fusionops.Catalog"' in article(site, "api/catalog")
    assert 'id="fusionops.use_backend"' in article(site, "api/settings")
    assert 'id="fusionops.ops.skip_small_gradients"' in article(site, "api/settings")
    for name in ("nn", "models", "evaluation", "data"):
        module = PACKAGE.members.get(name)
        for public_name in generate.public(module) if module else ():
            assert f'id="fusionops.{name}.{public_name}"' in article(site, f"api/{name}")


def test_pages_of_a_package_below_a_package(site):
    page = article(site, "api/models.encoders")
    for name in ("load_encoder", "encode", "text.TextEncoder", "table.TableEncoder"):
        assert f'id="fusionops.models.encoders.{name}"' in page


@pytest.mark.parametrize("name", ["FusionRecommender", "LinearFusion"])
def test_what_recommenders_share_is_shown_with_each(name, site):
    page = article(site, "api/models")
    for call in ("fit", "recommend", "similar_items", "user_profiles"):
        assert f'id="fusionops.models.{name}.{call}"' in page


@pytest.mark.parametrize(("page", "script"), [("shop", "shop.py"), ("own-model", "own_model.py")])
def test_examples_are_shown_as_they_are(page, script, site):
    shown = html.unescape(re.sub(r"<[^>]+>", "", article(site, f"examples/{page}")))
    assert (generate.ROOT / "examples" / script).read_text(encoding="utf-8").strip() in shown


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    found = {page.name: loaded.findall(page.read_text()) for page in site.rglob("*.html")}
    assert {page: tags for page, tags in found.items() if tags} == {}


def test_an_operator_without_formula_or_example_is_told():
    code = '"""Module."""\ndef f():\n    """Do."""\n'
    with griffe.temporary_visited_package("pkg", {"__init__.py": code}) as package:
        assert generate.missing(package["f"]) == ["formula", "example"]
