"""How much of a pretrained encoder is trained, in one word.

* ``"frozen"``: nothing. Its vectors can be computed once and kept.
* ``"lora"``: low-rank additions to its linear layers (Hu et al. 2021), by peft: about a hundredth
  of the weights.
* ``"full"``: everything.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Literal, get_args

from torch import nn

Adaptation = Literal["frozen", "lora", "full"]


def checked(adaptation: Any) -> Adaptation:
    """`adaptation`, if it is one of the three words."""
    if adaptation not in get_args(Adaptation):
        raise ValueError(f"adaptation: expected 'frozen', 'lora' or 'full', got {adaptation!r}")
    found: Adaptation = adaptation
    return found


def adapt(backbone: nn.Module, adaptation: Adaptation, rank: int = 8) -> None:
    """Set which weights are trained, in place.

    Parameters
    ----------
    backbone : torch.nn.Module
    adaptation : {"frozen", "lora", "full"}
    rank : int
        Of the additions of ``"lora"``.

    Raises
    ------
    ValueError
        No such word, a rank below 1, or no layer that peft can add to.
    ImportError
        ``"lora"`` without peft.
    """
    if checked(adaptation) != "full":  # where some weights are constants by design
        backbone.requires_grad_(False)
    if adaptation == "lora":
        _add_lora(backbone, rank)


def merged(backbone: Any) -> Any:
    """The backbone as if it had never been adapted: a copy with the additions in the weights.

    Without additions it is the backbone itself.
    """
    # peft marks the weights that it adds; without any there is no need of it, nor of a copy.
    if not any("lora_" in name for name, _ in backbone.named_parameters()):
        return backbone
    from peft.tuners.tuners_utils import BaseTunerLayer

    copy = deepcopy(backbone)
    for name, layer in list(copy.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(copy.get_submodule(parent), child, layer.get_base_layer())
    return copy


def _add_lora(backbone: nn.Module, rank: int) -> None:
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ValueError(f"rank: expected an integer of at least 1, got {rank!r}")
    from peft import LoraConfig, inject_adapter_in_model

    targets = _targets(backbone)
    if not targets:
        raise ValueError(
            f"adaptation: expected 'frozen' or 'full' for {type(backbone).__name__}, which has no "
            "linear or convolutional layer that LoRA could add to, got 'lora'"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,  # so that the size of the additions hardly depends on the rank
        target_modules=list(targets),
        fan_in_fan_out=all(type(layer).__name__ == "Conv1D" for layer in targets.values()),
    )
    inject_adapter_in_model(config, backbone)


def _targets(backbone: nn.Module) -> dict[str, nn.Module]:
    """Linear layers, wherever they are; convolutions of a network that has none."""
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2, transposed

    linear: dict[str, nn.Module] = {}
    convolutions: dict[str, nn.Module] = {}
    for name, module in backbone.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)):
            linear[name] = module
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            convolutions[name] = module
    return linear or convolutions
