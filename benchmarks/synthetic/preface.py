"""What stands above the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .contenders import DIM, MOST_EPOCHS, SEEDS
from .questions import FRACTION, SETTINGS, TARGET, shop

_HEAD = """\
# Recommenders on synthetic data

**All data of this page is synthetic**: `fusionops.data.synthetic.make(seed=0)`, written before
any of these models was run on it and not changed since. {users:,} users buy {pairs:,} items of a
catalogue of {items:,} because of {factors} factors in each of text, picture and sound. A second
shop, `{missing}`, differs in that such a share of the contents is missing at random. So the best
possible ranking is known, and the question is which share of the gain from the best single
modality to it a model reaches.

By `python -m benchmarks.synthetic run` and `python -m benchmarks.synthetic report`, on
{processor}, one thread a fit.

* **Questions.** `warm`: the last {fraction:.0%} of each user's pairs, among all items that the
  user does not have. `new items`: a random {fraction:.0%} of the items without any training row,
  and only they are ranked.
* **What the truth gives.** The oracle ranks by the true factors and the true tastes. No model can
  know the tastes: the second line has the true factors, all of them, and learns the tastes from
  the same histories as the models (highest likelihood with a group lasso). Where it stays below
  {target:.0%} of the gain, a model that has to find the factors as well is hardly to reach that.
  The third learns the tastes over factors that are read from the features by a regression on the
  truth, and the fourth is the oracle of the contents that are present: for new items, of which
  contents are all that is known, that is about how far models can come. On `warm` they may come
  farther, as behaviour says what contents do not.
* **Features.** TF-IDF and its singular vectors, pictures averaged to 8 x 8 pixels, log energies
  of 40 bands of the sound; centred, one scale a modality, learned on items with history. No
  encoder knows the factors.
* **Single modalities.** FusionRecommender of one modality has no ids and is content alone.
  LinearFusion always reads behaviour: where it has one modality it has behaviour beside it, and
  on `warm` that counts as a single, too. The best single is the best on the test part itself,
  which makes the gain of all others smaller.
* **Concatenation**: a perceptron over all features side by side (zeros where missing) and, where
  that was better, an id; a user is the mean of the history; full softmax by
  `torch.nn.functional`, Adam, the better of two learning rates.
* **Choices** were made on a validation part: the same question asked within the training part, by
  NDCG, with seed {seed}; for networks (D {dim}, one learning rate) every 5 epochs up to {epochs},
  and the final fits stop where that was best. What FusionRecommender has not by default
  (`token_norm=False`, `missing="zeros"`, less dropout) was found on the validation parts too, and
  the first two are choices that the model got because of what was seen there; the last line is as
  by default.
* **Figures**: means over users, a user's figures averaged over {seeds} seeds where there is
  chance (± deviation over seeds). Shares and differences have 95 % bootstrap intervals over
  users; * marks differences that are more than chance by paired t-tests, adjusted by Holm over
  all of the page. `share, tastes learned` has the second bound at the top in place of the
  oracle."""


def head(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The title and what the figures are."""
    made = shop(next(iter(SETTINGS)))
    text = _HEAD.format(
        users=len(made.interactions.users),
        items=len(made.items),
        pairs=len(made.interactions),
        factors=made.truth.item[made.modalities[0]].shape[1],
        missing=list(SETTINGS)[-1],
        processor=" and ".join(sorted({record["processor"] for record in found})),
        fraction=FRACTION,
        target=TARGET,
        seed=SEEDS[0],
        seeds=len(SEEDS),
        dim=DIM,
        epochs=MOST_EPOCHS,
    )
    return text.split("\n")
