"""Encoders as parts of a model: from a few words in the config to vectors of the catalogue.

A spec says which encoder reads what: ``{"modality": "text", "model": "bert-base-uncased", "column":
"description", "adaptation": "lora"}`` and options of :func:`load_encoder`. ``modality`` is by
default the name of the spec, ``adaptation`` is ``"frozen"``, and ``column`` need not be said where
the items have a column of that name, or one column that could be meant. In place of a name
``model`` may be an :class:`Encoder`; the config then says None for it.

A frozen encoder with a name is only used to encode, and loaded again from that name when items are
added to a saved model. All others are saved with the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import TrainingArguments, set_seed

from fusionops.data.encoded import Encoded
from fusionops.data.ids import IdMap
from fusionops.data.interactions import Interactions
from fusionops.data.items import Items
from fusionops.data.report import InputWarning
from fusionops.models.encoders import Encoder, load_encoder
from fusionops.models.encoders.encoding import encode
from fusionops.models.encoders.saving import load_saved, save_encoder
from fusionops.models.interface.catalogue import catalogue_of, check_interactions

if TYPE_CHECKING:
    from fusionops.models.fusion_recommender.model import FusionNetwork

FOLDER = "encoders"

Spec = dict[str, Any]

_KINDS = {"text": "text", "image": "media", "audio": "media"}


@dataclass(frozen=True)
class ItemEncoder:
    """An encoder and what it reads.

    Attributes
    ----------
    name : str
        Of the modality in the model.
    encoder : Encoder
    spec : dict
        As it is in the config.
    ids : IdMap
        Of the items.
    contents : list
        One an item, None where there is none.
    """

    name: str
    encoder: Encoder
    spec: Spec
    ids: IdMap
    contents: list[Any]

    @classmethod
    def of(cls, name: str, encoder: Encoder, spec: Spec, items: Items) -> ItemEncoder:
        """An encoder of the column of some items that its spec names."""
        return cls(name, encoder, spec, items.ids, list(items.column(spec["column"])))

    @property
    def trained(self) -> bool:
        """Whether it is trained with the model."""
        return self.encoder.adaptation != "frozen"

    def encode(self) -> Encoded:
        """The vectors of the items; InputWarning where some have none."""
        found, problems = encode(self.encoder, self.ids, self.contents)
        missing = len(found) - int(found.present.sum()) - len(problems)
        said = []
        if missing:
            said.append(f"{missing} of {len(found)} items have no {self.spec['column']}")
        if problems:
            said.append(f"{len(problems)} cannot be read ({problems[0].sentence})")
        if said:
            warnings.warn(
                f"encoders[{self.name!r}]: {' and '.join(said)}; they are used without",
                InputWarning,
                stacklevel=4,
            )
        return found


def encoded_inputs(
    given: Mapping[str, Any],
    interactions: Interactions,
    items: Items | None,
    features: Mapping[str, Encoded] | None,
    arguments: TrainingArguments,
) -> tuple[Items, dict[str, Encoded], dict[str, ItemEncoder]]:
    """Load encoders and let them encode the catalogue.

    Parameters
    ----------
    given : mapping of str to spec or Encoder
    interactions, items, features
        As ``fit`` was given them.
    arguments : TrainingArguments
        For the seed, from which what is added to an encoder begins, and the device.

    Returns
    -------
    items : Items
        The catalogue in order.
    features : dict of str to Encoded
        Those given, and those of the encoders.
    encoders : dict of str to ItemEncoder

    Raises
    ------
    TypeError, ValueError, OSError
        A spec that cannot be followed.
    """
    check_interactions(interactions)
    catalogue = catalogue_of(interactions.items, items)
    twice = sorted(set(features or {}) & set(given))
    if twice:
        raise ValueError(f"features: expected no {twice[0]!r}, as encoders has it, too")
    set_seed(arguments.seed)
    found = {}
    for name, spec in given.items():
        encoder, spec = _built(name, spec, catalogue)
        found[name] = ItemEncoder.of(name, encoder.to(arguments.device), spec, catalogue)
    together = dict(features or {})
    for name, part in found.items():
        together[name] = part.encode()
        if not together[name].present.any():
            raise ValueError(
                f"encoders[{name!r}]: expected an item with content that can be read in the column "
                f"{part.spec['column']!r}, got none"
            )
    return catalogue, together, found


def install(network: FusionNetwork, encoders: Mapping[str, ItemEncoder]) -> None:
    """Make encoders part of a network that is built, and their specs of its config."""
    network.config.encoders = {name: part.spec for name, part in encoders.items()}
    for name, part in encoders.items():
        _place(network, name, part.encoder)


def encode_added(network: FusionNetwork, added: Items, names: list[str]) -> dict[str, Encoded]:
    """The vectors of items that join, in modalities that nothing else gives vectors of."""
    found: dict[str, Encoded] = {}
    for name in names:
        spec = network.config.encoders[name]
        part = ItemEncoder.of(name, _of(network, name), spec, added)
        if any(content is not None for content in part.contents):
            vectors = part.encode()
            found |= {name: vectors} if vectors.present.any() else {}
    return found


def save_encoders(network: FusionNetwork, folder: Path) -> None:
    """Write the encoders that nobody else has."""
    for name, spec in network.config.encoders.items():
        if _kept(spec):
            save_encoder(_of(network, name), folder / FOLDER / name)


def load_encoders(network: FusionNetwork, folder: Path) -> None:
    """Read what :func:`save_encoders` wrote; these encoders are not trained any more."""
    for name, spec in network.config.encoders.items():
        if _kept(spec):
            _place(network, name, load_saved(folder / FOLDER / name))


def _kept(spec: Spec) -> bool:
    return spec["model"] is None or spec["adaptation"] != "frozen"


def _of(network: FusionNetwork, name: str) -> Encoder:
    if name in network.encoders:
        return cast("Encoder", network.encoders[name])
    if name not in network.frozen:
        network.frozen[name] = _load(name, network.config.encoders[name])
    return network.frozen[name].to(network.device)


def _place(network: FusionNetwork, name: str, encoder: Encoder) -> None:
    if encoder.adaptation == "frozen":
        network.frozen[name] = encoder  # none of the weights of the model
    else:
        network.encoders[name] = encoder


def _built(name: str, given: Any, items: Items) -> tuple[Encoder, Spec]:
    """An encoder, and its spec with nothing left to be guessed."""
    if isinstance(given, Encoder):
        given = {"model": given}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"encoders[{name!r}]: expected an Encoder or a mapping with 'model', "
            f"got {type(given).__name__}"
        )
    spec = {"modality": name, "model": None, "column": None, "adaptation": "frozen", **given}
    model = spec["model"]
    if isinstance(model, Encoder):
        about = {"modality": model.modality, "adaptation": model.adaptation}
        wrong = [key for key in given if key in about and given[key] != about[key]]
        if wrong:
            raise ValueError(
                f"encoders[{name!r}]: expected {wrong[0]} {about[wrong[0]]!r}, which is that of "
                f"the encoder, got {given[wrong[0]]!r}"
            )
        spec |= {**about, "model": None}
    elif isinstance(model, (str, Path)):
        spec["model"] = str(model)
    else:
        raise TypeError(
            f"encoders[{name!r}]: expected a path, an id or an Encoder as model, "
            f"got {type(model).__name__}"
        )
    spec["column"] = _column(name, spec, items)
    return model if isinstance(model, Encoder) else _load(name, spec), spec


def _load(name: str, spec: Spec) -> Encoder:
    options = {key: value for key, value in spec.items() if key not in ("modality", "column")}
    try:
        return load_encoder(spec["modality"], options.pop("model"), **options)
    except TypeError as error:
        raise TypeError(f"encoders[{name!r}]: {error}") from None


def _column(name: str, spec: Spec, items: Items) -> str:
    kind = _KINDS.get(spec["modality"])
    if kind is None:
        raise ValueError(
            f"encoders[{name!r}]: expected the modality {' or '.join(map(repr, _KINDS))}, "
            f"got {spec['modality']!r}"
        )
    columns = list(getattr(items, kind))
    wanted = spec["column"]
    if wanted is None and name in columns:
        return name
    if wanted is None and len(columns) == 1:
        return str(columns[0])
    if wanted not in columns:
        raise ValueError(
            f"encoders[{name!r}]: expected as column a {kind} column of the items ({columns}), "
            f"got {wanted!r}"
        )
    return str(wanted)
