"""A multimodal recommender in eager PyTorch, and with the modules in place of its parts.

Both start from one state dict and train to the same losses, step by step.
"""

from __future__ import annotations

import math

import pytest
import torch
from support import normal
from torch import nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from fusionops.nn import (
    AttentionFusion,
    BidirectionalFusion,
    DeepFusion,
    FusionLoss,
    HistoryFusion,
    WeightedFusion,
)

USERS, ITEMS, MODALITIES, WIDTH, LONGEST, STEPS = 16, 20, 3, 8, 6, 25


class EagerGates(nn.Module):
    """A softmax-weighted sum."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(WIDTH))
        self.bias = nn.Parameter(torch.empty(MODALITIES))

    def forward(self, tokens, mask):
        logits = (tokens @ self.weight + self.bias).masked_fill(~mask, -torch.inf)
        return (logits.softmax(1).unsqueeze(-1) * tokens).sum(1)


class EagerBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, tokens, mask):
        x = self.norm1(tokens)
        x = tokens + self.self_attn(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
        return x + self.linear2(gelu(self.linear1(self.norm2(x))))


class EagerPool(nn.MultiheadAttention):
    """Attention from a learned query."""

    def __init__(self):
        super().__init__(WIDTH, 2, batch_first=True)
        self.query = nn.Parameter(torch.empty(1, WIDTH))

    def forward(self, tokens, mask):
        query = self.query.expand(len(tokens), 1, WIDTH)
        fused, _ = super().forward(query, tokens, tokens, key_padding_mask=~mask)
        return fused.squeeze(1)


class EagerHistory(nn.Module):
    """The mean of gathered rows."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(ITEMS, WIDTH)

    def forward(self, ids, offsets):
        histories = torch.tensor_split(self.embedding(ids), offsets[1:-1])
        return torch.stack([rows.sum(0) / max(len(rows), 1) for rows in histories])


class EagerCoAttention(nn.Module):
    """Two calls, one for each direction."""

    def __init__(self):
        super().__init__()
        self.user_proj = nn.Linear(WIDTH, 2 * WIDTH)
        self.item_proj = nn.Linear(WIDTH, 2 * WIDTH)

    def forward(self, user, item, item_mask):
        user, user_value = self.user_proj(user).chunk(2, -1)
        item, item_value = self.item_proj(item).chunk(2, -1)
        from_item = scaled_dot_product_attention(user, item, item_value, item_mask.unsqueeze(1))
        return from_item, scaled_dot_product_attention(item, user, user_value)


class EagerLoss(nn.Module):
    """The log-softmax over the catalogue, of cosines with a learned temperature."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.empty(1))

    def forward(self, user, item, target, item_bias):
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        logits = scale * normalize(user, dim=1) @ normalize(item, dim=1).T + item_bias
        return -logits.log_softmax(1).gather(1, target.unsqueeze(1)).mean()


class Model(nn.Module):
    """A user is a history and a conversation with the item's tokens; an item is its modalities."""

    def __init__(self, gates, block, pool, history, both, loss):
        super().__init__()
        self.gates, self.block, self.pool = gates, block, pool
        self.history, self.both, self.loss = history, both, loss

    def forward(self, batch):
        tokens = self.block(batch["tokens"], batch["mask"])
        item = self.gates(tokens, batch["mask"]) + self.pool(tokens, batch["mask"])
        user = self.history(batch["ids"], batch["offsets"])
        own, mask = tokens[batch["target"]], batch["mask"][batch["target"]]
        from_item, from_user = self.both(user.unsqueeze(1), own, item_mask=mask)
        from_user = from_user.masked_fill(~mask.unsqueeze(-1), 0).sum(1)
        user = user + 0.1 * (from_item.squeeze(1) + from_user)
        return self.loss(user, item, batch["target"], item_bias=batch["log_popularity"])


def eager():
    return Model(
        EagerGates(), EagerBlock(), EagerPool(), EagerHistory(), EagerCoAttention(), EagerLoss()
    )


def swapped():
    return Model(
        WeightedFusion(MODALITIES, WIDTH),
        DeepFusion(WIDTH, 2),
        AttentionFusion(WIDTH, 2, num_queries=1),
        HistoryFusion(WIDTH, num_embeddings=ITEMS),
        BidirectionalFusion(WIDTH),
        FusionLoss(normalization="cosine"),
    )


def batch_of(step, missing):
    """Items with modalities of which some are missing; `missing` is what stands in their place."""
    mask = normal(ITEMS, MODALITIES, seed=step) > -0.5
    mask[torch.arange(ITEMS), torch.arange(ITEMS) % MODALITIES] = True
    tokens = normal(ITEMS, MODALITIES, WIDTH, dtype=torch.float64)
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(LONGEST, (USERS,), generator=generator)  # some are empty
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return {
        "tokens": tokens.masked_fill(~mask.unsqueeze(-1), missing),
        "mask": mask,
        "ids": torch.randint(ITEMS, (int(offsets[-1]),), generator=generator),
        "offsets": offsets,
        "target": torch.randint(ITEMS, (USERS,), generator=generator),
        "log_popularity": torch.linspace(-1, 1, ITEMS, dtype=torch.float64),
    }


def losses(model, state, optimizer, missing):
    model.double().load_state_dict(state)
    trained, found = optimizer(model.parameters()), []
    for step in range(STEPS):
        trained.zero_grad()
        loss = model(batch_of(step, missing))
        loss.backward()
        trained.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64), model.state_dict()


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    # eps far above the rounding of gradients that are 0, as that of a key's bias is.
    "adam": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, eps=1e-6),
}


@pytest.mark.parametrize("missing", [0.0, torch.nan])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_losses_step_by_step(optimizer, missing):
    """What stands in place of a missing modality makes no difference to the modules."""
    torch.manual_seed(0)
    state = swapped().double().state_dict()
    expected, trained = losses(eager(), state, OPTIMIZERS[optimizer], 0.0)
    found, ours = losses(swapped(), state, OPTIMIZERS[optimizer], missing)
    assert expected[-5:].mean() < expected[:5].mean() - 0.1  # there was something to learn
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    for name, value in ours.items():
        torch.testing.assert_close(value, trained[name], rtol=1e-7, atol=1e-9)
