"""Items that join the catalogue after training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fusionops.data.encoded import Encoded
from fusionops.data.items import Items
from fusionops.models.fusion_recommender.inputs import fill_items
from fusionops.models.fusion_recommender.model import FusionNetwork


def grow(network: FusionNetwork, added: Items, features: Mapping[str, Encoded]) -> None:
    """Give every array over items a row for each item that is added; none has a known id."""
    tower, old = network.item_tower, network.config.num_items
    count = len(added)
    for module, names in (
        (tower, [name for name, _ in tower.named_buffers(recurse=False)]),
        (network, ["log_popularity"]),
    ):
        for name in names:
            buffer = module.get_buffer(name)
            rows = buffer.new_zeros(count, *buffer.shape[1:])
            module.register_buffer(name, torch.cat([buffer, rows]))
    tower.history_scale[old:] = 1
    if tower.ids is not None:
        table = tower.ids.weight
        rows = table.new_zeros(count, table.shape[1])
        tower.ids = nn.Embedding.from_pretrained(torch.cat([table, rows]).detach(), freeze=False)
    network.config.num_items = old + count
    fill_items(network, added, features, slice(old, None))
