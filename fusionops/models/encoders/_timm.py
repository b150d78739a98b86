"""Vision models of timm: from its hub, from a folder, or from a file of weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusionops.models.encoders import _hub

Parts = tuple[nn.Module, Callable[[Any], Tensor], dict[str, Any]]

_CLASSIFIER = 2  # a weight and a bias at the end of the file


def load(
    model: str | Path, architecture: str | None, dtype: str, revision: str | None
) -> Parts | None:
    """Network without classifier, transform and their description; None if it is none of timm's.

    Parameters
    ----------
    model : str or Path
    architecture : str or None
        The name in timm of a model whose weights are in the file `model`.
    dtype : str
        Of the weights, as in ``_hub.load_backbone``.
    revision : str or None
        On the hub.
    """
    path = Path(model).expanduser() if isinstance(model, (str, Path)) else None
    if path is not None and path.is_file():
        return _parts(_from_file(path, architecture), dtype)
    if architecture is not None:
        raise ValueError(
            f"architecture: expected it only beside a file of weights, got the model {str(model)!r}"
        )
    if path is not None and path.exists():
        return _parts(_from_timm(path, f"local-dir:{path}"), dtype) if _is_timm(path) else None
    if not isinstance(model, str) or not model.startswith("timm/"):
        return None
    name = f"hf-hub:{model}@{revision}" if revision else f"hf-hub:{model}"
    return _parts(_from_timm(model, name), dtype)


def save(network: nn.Module, folder: Path) -> None:
    """Write a network into a folder that :func:`load` reads.

    Raises
    ------
    TypeError
        It is none of timm's.
    """
    if not hasattr(network, "pretrained_cfg"):
        raise TypeError(
            "backbone: expected a model of transformers or timm, so that it can be saved, got "
            f"{type(network).__name__}"
        )
    from timm.models import save_for_hf

    save_for_hf(network, str(folder), safe_serialization=True)


def _is_timm(folder: Path) -> bool:
    """Its configuration names an architecture where transformers' has a type of model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "architecture" in config and "model_type" not in config


def _from_timm(model: str | Path, name: str) -> nn.Module:
    import timm

    with _hub.explained("timm weights", _hub.Source(str(model), isinstance(model, Path))):
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    return network


def _from_file(path: Path, architecture: str | None) -> nn.Module:
    import timm
    from timm.models import load_state_dict

    if architecture is None:
        raise ValueError(
            f"architecture: expected the name in timm of the model whose weights are {str(path)!r},"
            " got None"
        )
    if not timm.is_model(architecture):
        raise ValueError(
            f"architecture: expected the name of a model of timm, got {architecture!r}"
        )
    network: nn.Module = timm.create_model(architecture, num_classes=0)
    with _hub.explained("weights", _hub.Source(str(path), True)):
        weights = load_state_dict(str(path), weights_only=True)
    network.load_state_dict(_matched(weights, network.state_dict(), architecture))
    return network


def _matched(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], architecture: str
) -> dict[str, Tensor]:
    """Weights under the names that the network has, by name or else in order."""
    if all(name in weights and weights[name].shape == wanted[name].shape for name in wanted):
        return {name: weights[name] for name in wanted}
    given, names = _in_order(weights), _in_order(wanted)
    pairs = list(zip(given, names, strict=False))
    agree = sum(weights[theirs].shape == wanted[ours].shape for theirs, ours in pairs)
    if agree < len(names) or len(given) > len(names) + _CLASSIFIER:
        raise ValueError(
            f"model: expected the {len(names)} weights of {architecture}, and those of a "
            f"classifier, got {len(given)}, of which {agree} have the shape of what is in their "
            "place"
        )
    # How often a batch was seen says nothing in evaluation, and not all files have it.
    counters = {name: wanted[name] for name in wanted if name not in set(names)}
    return counters | {ours: weights[theirs] for theirs, ours in pairs}


def _in_order(weights: Mapping[str, Tensor]) -> list[str]:
    return [name for name in weights if not name.endswith("num_batches_tracked")]


def _parts(network: nn.Module, dtype: str) -> Parts:
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    chosen = _hub.checked_dtype(dtype)
    network = (network.to(chosen) if isinstance(chosen, torch.dtype) else network).eval()
    data = resolve_model_data_config(network)
    kind: Any = network
    description = {
        "timm": kind.pretrained_cfg.get("architecture"),
        "pooling": str(getattr(kind, "global_pool", None)),
        "transform": data,
    }
    return network, create_transform(**data, is_training=False), description
