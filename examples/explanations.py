"""Why a customer gets what is recommended, in words and as pictures, on the Online Retail data.

    python examples/explanations.py [--out DIR]

As of 2011-09-01: what is first sold later is new, and nobody has had it. The customer is the first
by id who had bought 20 to 30 different items by then.
"""

import argparse
from pathlib import Path

import numpy as np

from fusionops.data import online_retail
from fusionops.evaluation import protocols
from fusionops.files import write_atomically
from fusionops.models import LinearFusion

DATE = "2011-09-01"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("explanations"), help="for the pictures")
    return parser.parse_args()


def main(out):
    interactions, items = online_retail.load()
    train = protocols.one_list(interactions, DATE).train
    model = LinearFusion().fit(train, items)

    had = train.matrix()
    different = np.diff(had.indptr)
    customer = train.users.ids[np.flatnonzero((different >= 20) & (different <= 30))[0]]
    buyers = np.bincount(had.indices, minlength=had.shape[1])
    out.mkdir(parents=True, exist_ok=True)
    for kind, codes in (
        ("bought by others", np.flatnonzero(buyers > 0)),
        ("new", np.flatnonzero(buyers == 0)),
    ):
        among = train.items.ids[codes]
        (first,) = model.explain_list(customer, k=1, candidates=among)
        explanation = model.explain(customer, first.item, k=10, candidates=among)
        print(f"{kind}, to customer {customer}:\n{explanation.sentence()}\n")
        write_atomically(out / f"{kind.replace(' ', '-')}.png", explanation.chart())


if __name__ == "__main__":
    main(arguments().out)
