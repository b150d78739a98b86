"""A shop, from purchases to a service: encode, fit, evaluate, recommend, save, add items, serve.

    python examples/shop.py [--quick] [--text-model FOLDER] [--out DIR]

On the Online Retail data of the package before 2011-09-01; what was first sold later is cold. The
text model is one of transformers, by folder or id. Without it descriptions are encoded by an SVD of
their TF-IDF, which needs no download and knows no language.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from fusionops import Catalog
from fusionops.data import Encoded, IdMap, Items, online_retail
from fusionops.evaluation import Popularity, evaluate, protocols
from fusionops.models import FusionRecommender, LinearFusion
from fusionops.models.encoders import encode, load_encoder


def text_encoder(model, items):
    """A function from items to vectors of their descriptions."""
    if model is not None:
        encoder = load_encoder("text", model)
        return lambda items: encode(encoder, items.ids, items.text["description"])[0]
    texts = [text for text in items.text["description"] if text]
    terms = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    pipeline = make_pipeline(terms, TruncatedSVD(128, random_state=0)).fit(texts)

    def by_terms(items):
        present = np.array([bool(text) for text in items.text["description"]])
        vectors = pipeline.transform([text or "" for text in items.text["description"]])
        return Encoded(items.ids, vectors.astype(np.float32), present)

    return by_terms


def fitted(interactions, items, features, quick):
    """Three models: everybody's favourites, the closed form, and what is trained from there."""
    popular = Popularity().fit(interactions, items)
    linear = LinearFusion(rank=256 if quick else 1024).fit(interactions, items, features=features)
    fusion = FusionRecommender(dim=64 if quick else 128)
    arguments = {"num_train_epochs": 1 if quick else 10, "seed": 0}
    fusion.fit(interactions, items, features=features, start=linear, arguments=arguments)
    return popular, linear, fusion


def serve(model, customers, file):
    """Lists from a Catalog: its process needs neither the model nor torch, only their profiles."""
    ids = model.items.ids.ids
    Catalog.build(model.item_vectors, ids, normalization="none", dtype="int8").save(file)
    catalog, profiles = Catalog.load(file), model.user_profiles(customers)
    _, best = catalog.search(profiles, 3)
    listed = model.recommend(customers, k=3, exclude_seen=False)["item"].to_numpy()
    assert best.ravel().tolist() == listed.tolist()
    print(f"Served from {file}: {best.tolist()}")


def show(title, table):
    rows = table.drop_columns("score").to_pylist()
    print(f"{title}:", *("  ".join(map(str, row.values())) for row in rows), sep="\n    ")


def main(text_model, out, quick):
    interactions, items = online_retail.load()
    split = protocols.one_list(interactions, "2011-09-01")  # ranks items with and without history
    encode_text = text_encoder(text_model, items)
    popular, linear, fusion = fitted(split.train, items, {"text": encode_text(items)}, quick)

    for model in (popular, linear, fusion):
        found = evaluate(model.rank(split.users, 20)[1], split, 20)
        print(f"{model.name}: NDCG@20 {found['ndcg']:.3f}, coverage {found['coverage']:.2f}")
    customers, ids = split.train.users.ids[:2], split.train.items.ids
    unsold = ids[np.bincount(split.train.item, minlength=len(ids)) == 0]
    for model in (linear, fusion):
        show(f"{model.name}, all items", model.recommend(customers, k=3))
        show(f"{model.name}, new items", model.recommend(customers, k=3, candidates=unsold))
        model.save_pretrained(out / model.name)

    fusion = FusionRecommender.from_pretrained(out / fusion.name)
    text = ["RED RETROSPOT LUNCH BAG FOR CHILDREN", "WHITE METAL STAR LANTERN"]
    numeric = {"price": np.array([1.65, 4.25]), "code": np.array([22384.0, 84947.0])}
    new = Items(IdMap(["NEW-1", "NEW-2"]), text={"description": text}, numeric=numeric)
    fusion.add_items(new, features={"text": encode_text(new)})
    show("Near to what was added", fusion.similar_items(["NEW-1", "NEW-2"], k=2))
    serve(fusion, customers, out / "catalog.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text-model", metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("shop"))
    parser.add_argument("--quick", action="store_true", help="one epoch, narrow vectors")
    main(**vars(parser.parse_args()))
