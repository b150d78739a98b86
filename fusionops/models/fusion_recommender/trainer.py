"""The Trainer of transformers, with a learning rate and checkpoints for encoders."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer

from fusionops.models.fusion_recommender.model import FusionNetwork


class FusionTrainer(Trainer):
    """Trains a :class:`FusionNetwork`.

    What a pretrained encoder knows is worth keeping: its weights learn at
    ``config.encoder_learning_rate``, on the same schedule as the others.

    Parameters
    ----------
    network : FusionNetwork
    *args, **kwargs
        Of the Trainer, from ``args`` on.
    """

    def __init__(self, network: FusionNetwork, *args: Any, **kwargs: Any) -> None:
        super().__init__(network, *args, **kwargs)
        self._network = network

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's optimizer, the weights of encoders in groups of their own."""
        first = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        weights = {id(weight) for weight in self._network.encoders.parameters()}
        if first and weights:
            _slow_down(optimizer, weights, self._network.config.encoder_learning_rate)
        return optimizer

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write a checkpoint: all weights as they are trained, those of encoders as well."""
        super()._save(output_dir, self._network.state_dict() if state_dict is None else state_dict)


def _slow_down(optimizer: torch.optim.Optimizer, weights: set[int], rate: float) -> None:
    """Give some weights (by their ``id``) another learning rate, and all else as it is."""
    for group in list(optimizer.param_groups):
        slow = [weight for weight in group["params"] if id(weight) in weights]
        if slow:
            group["params"] = [weight for weight in group["params"] if id(weight) not in weights]
            optimizer.add_param_group({**group, "params": slow, "lr": rate})
