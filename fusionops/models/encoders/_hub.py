"""Models by id or folder, through transformers, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusionops.models.encoders.base import reason

# How the classes of an encoder without its decoder are called, such as WhisperEncoder or T5Stack.
_ENCODERS = ("Encoder", "Stack")

# What a configuration says of where it is from, not of what the model computes.
_PROVENANCE = {"_name_or_path", "_model_name_or_path", "transformers_version", "architectures"}


@dataclass(frozen=True)
class Source:
    """Where a model is from.

    Attributes
    ----------
    name : str
        The id on the hub, or the path of a folder or file.
    local : bool
        Whether `name` is a path.
    options : dict of str to str
        For ``from_pretrained``: the file of a GGUF model, the revision on the hub.
    """

    name: str
    local: bool
    options: dict[str, str] = field(default_factory=dict)


def locate(
    model: str | Path, *, gguf_file: str | None = None, revision: str | None = None
) -> Source:
    """Tell paths from ids, and find the file of a GGUF model.

    Parameters
    ----------
    model : str or Path
        A folder, a ``.gguf`` file, or an id on the hub.
    gguf_file : str, optional
        The name of the file in `model`; a folder with one such file and no ``config.json`` needs
        none.
    revision : str, optional
        On the hub: a branch, tag or commit.

    Raises
    ------
    TypeError
        `model` is neither a text nor a path.
    FileNotFoundError
        It can only be a path, and nothing is there.
    ValueError
        It is a file of another kind, or a folder of several GGUF files and none is named.
    """
    if not isinstance(model, (str, Path)):
        raise TypeError(f"model: expected a model id or a path, got {type(model).__name__}")
    options = {
        name: value
        for name, value in (("gguf_file", gguf_file), ("revision", revision))
        if value is not None
    }
    path = Path(model).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"model: expected a folder or a model id, got the file {str(path)!r}")
        return Source(str(path.parent), True, {**options, "gguf_file": path.name})
    if path.exists():
        if gguf_file is None and not (path / "config.json").exists():
            options |= _only_gguf(path)
        return Source(str(path), True, options)
    if isinstance(model, Path) or str(model).startswith((".", "/", "~")) or model.count("/") > 1:
        raise FileNotFoundError(
            f"model: expected a folder or a model id, got {str(model)!r}, where there is nothing"
        )
    return Source(model, False, options)


def _only_gguf(folder: Path) -> dict[str, str]:
    files = sorted(file.name for file in folder.glob("*.gguf"))
    if len(files) > 1:
        raise ValueError(f"gguf_file: expected one of {', '.join(files)}, got None")
    return {"gguf_file": files[0]} if files else {}


def load(auto: Any, what: str, source: Source, **options: Any) -> Any:
    """``auto.from_pretrained``, with errors in one sentence.

    Parameters
    ----------
    auto : type
        A class of transformers: ``AutoModel``, ``AutoTokenizer``...
    what : str
        What it loads, for the message.
    source : Source
    options
        For ``from_pretrained``.

    Raises
    ------
    OSError
        The hub does not give it.
    ValueError
        The folder does not hold it, or it is damaged.
    """
    with explained(what, source), _errors_only():
        return auto.from_pretrained(source.name, **source.options, **options)


@contextmanager
def explained(what: str, source: Source) -> Iterator[None]:
    """Turn what libraries raise inside into the errors of :func:`load`."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # of a dozen libraries, each with its own
        if source.local:
            raise ValueError(
                f"model: expected the {what} of a model in {source.name!r}, got {reason(error)}"
            ) from error
        raise OSError(unreachable(source.name, reason(error))) from error


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without transformers' reports of heads that an encoder has no use for."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def unreachable(name: str, why: str) -> str:
    """What to do where the hub does not give a model."""
    return (
        f"model: {name!r} is no local folder, and the Hugging Face hub did not give it ({why}); "
        f"where the hub cannot be reached, run `hf download {name} --local-dir FOLDER` on a "
        "machine that reaches it, copy the folder and pass its path as the model"
    )


def load_config(source: Source, tower: str) -> Any:
    """The configuration; of a model of several towers, such as CLIP, that of one modality.

    Parameters
    ----------
    source : Source
    tower : {"text", "vision", "audio"}
    """
    from transformers import AutoConfig

    config = load(AutoConfig, "configuration", source)
    return getattr(config, f"{tower}_config", None) or config


def load_backbone(source: Source, config: Any, dtype: str) -> nn.Module:
    """The network in evaluation mode, without the parts that its checkpoint leaves to chance.

    Parameters
    ----------
    source : Source
    config : transformers.PretrainedConfig
    dtype : str
        Of the weights: the name of a dtype of torch, or ``"auto"`` for that of the checkpoint.

    Raises
    ------
    ValueError
        The checkpoint lacks weights, or `dtype` is no dtype.
    """
    backbone, report = load(
        _model_class(config),
        "weights",
        source,
        config=config,
        dtype=checked_dtype(dtype),
        output_loading_info=True,
    )
    _settle_missing(backbone, set(report["missing_keys"]), source.name)
    found: nn.Module = backbone.eval()
    return found


def _model_class(config: Any) -> Any:
    """AutoModel, or the encoder of an encoder and decoder, where that alone has been saved."""
    from transformers import AutoModel

    name = (getattr(config, "architectures", None) or [""])[0]
    if not name.endswith(_ENCODERS):
        return AutoModel
    module = type(config).__module__.replace(".configuration_", ".modeling_")
    return getattr(import_module(module), name, AutoModel)


def checked_dtype(dtype: str) -> torch.dtype | str:
    """The dtype of torch with this name; ``"auto"`` stays."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    if dtype != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"dtype: expected a floating dtype such as 'float32', got {dtype!r}")
    return dtype if found is None else found


def save(backbone: Any, folder: Path) -> None:
    """``save_pretrained``; a GGUF model that was unpacked when loaded is saved as any other."""
    quantizer = getattr(backbone, "hf_quantizer", None)
    packed = any(tensor.dtype == torch.uint8 for tensor in backbone.state_dict().values())
    if quantizer is not None and not packed:
        quantizer.remove_quantization_config(backbone)
    backbone.save_pretrained(folder)


def configuration(config: Any) -> dict[str, Any]:
    """What a configuration says of the computation."""
    return {k: v for k, v in config.to_diff_dict().items() if k not in _PROVENANCE}


def _settle_missing(backbone: Any, missing: set[str], name: str) -> None:
    """Random weights would give vectors that mean nothing and differ from process to process."""
    pooler = {key for key in missing if key.startswith("pooler.")}
    if pooler:
        backbone.pooler = None
    mask = {key for key in missing if key.endswith("masked_spec_embed")}
    for key in mask:  # replaces masked frames in training, and only there
        nn.init.zeros_(backbone.get_parameter(key))
    lost = sorted(missing - pooler - mask)
    if lost:
        raise ValueError(
            f"model: expected all weights of {type(backbone).__name__} in {name!r}, got a "
            f"checkpoint without {len(lost)} of them, for example {lost[0]!r}"
        )
