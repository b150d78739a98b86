"""Operators in your own PyTorch model: a two-tower recommender before and after.

    python examples/own_model.py [--quick]

`Eager` is plain PyTorch, `Fused` the same by operators. They have to agree; then one is trained.
"""

import sys
import timeit

import torch
from torch import nn

import fusionops


class TwoTower(nn.Module):
    """Items are an id, a text and a picture; users are the items that they have had."""

    def __init__(self, text, picture, present, dim=64):
        super().__init__()
        self.text, self.picture, self.present = text, picture, present  # present: bool [P, 3]
        self.ids = nn.Embedding(len(text), dim)
        self.from_text, self.from_picture = (nn.Linear(x.shape[1], dim) for x in (text, picture))
        self.query = nn.Parameter(torch.randn(1, 1, dim))
        self.scale = nn.Parameter(torch.tensor(10.0))  # the inverse temperature

    def vectors(self, had, offsets):
        tokens = [self.ids.weight, self.from_text(self.text), self.from_picture(self.picture)]
        item = self.items(torch.stack(tokens, 1))
        return self.users(item, had, offsets), item

    def forward(self, had, offsets, target):
        return self.loss(*self.vectors(had, offsets), target, had, offsets)


class Eager(TwoTower):
    """What is replaced: it holds gathered histories and the logits of every user and item."""

    def items(self, tokens):
        scores = (self.query * tokens).sum(2) / tokens.shape[2] ** 0.5
        weights = scores.masked_fill(~self.present, float("-inf")).softmax(1)
        return (weights[:, :, None] * tokens).sum(1)

    def users(self, item, had, offsets):
        row = torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())
        total = item.new_zeros(len(offsets) - 1, item.shape[1]).index_add(0, row, item[had])
        return total / offsets.diff().clamp(min=1)[:, None]

    def loss(self, user, item, target, had, offsets):
        logits = self.scale * nn.functional.normalize(user) @ nn.functional.normalize(item).T
        row = torch.arange(len(user)).repeat_interleave(offsets.diff())
        logits = logits.index_put((row, had), logits.new_tensor(float("-inf")))
        return nn.functional.cross_entropy(logits, target)


class Fused(TwoTower):
    """The same by operators."""

    def items(self, tokens):
        query = self.query.expand(len(tokens), -1, -1)
        return fusionops.attention_fusion(query, tokens, tokens, self.present)[:, 0]

    def users(self, item, had, offsets):
        return fusionops.history_fusion(item, offsets, ids=had)

    def loss(self, user, item, target, had, offsets):
        how = {"normalization": "cosine", "scale": self.scale, "exclude": (offsets, had)}
        return fusionops.fusion_cross_entropy(user, item, target, **how)


def main(users, items):
    torch.manual_seed(0)
    # Items of 50 kinds, of which text and picture tell; users have had 10 of a kind: which is next?
    kind, taste = torch.arange(items) % 50, torch.randint(50, (users, 1))
    text, picture = (torch.randn(50, w)[kind] + torch.randn(items, w) for w in (96, 128))
    present = torch.rand(items, 3) > torch.tensor([0.0, 0.0, 0.2])  # some have no picture
    had = taste + 50 * torch.rand(users, items // 50).argsort(1)[:, :11]
    batch = had[:, :10].flatten(), torch.arange(0, 10 * users + 1, 10), had[:, 10]

    eager, fused = Eager(text, picture, present), Fused(text, picture, present)
    fused.load_state_dict(eager.state_dict())
    torch.testing.assert_close(fused(*batch), eager(*batch), rtol=0, atol=1e-5)
    for model in (eager, fused):
        step = timeit.repeat(lambda model=model: model(*batch).backward(), number=1, repeat=3)
        print(f"{type(model).__name__}: loss {model(*batch):.6f}, a step takes {min(step):.3f} s")

    optimizer = torch.optim.Adam(fused.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        fused(*batch).backward()
        optimizer.step()
    user, item = fused.vectors(*batch[:2])
    _, top = fusionops.fusion_topk(user, item, 10, normalization="cosine", exclude=batch[1::-1])
    print(f"Trained: {(kind[top] == taste).float().mean():.0%} of the lists is of the right kind")


if __name__ == "__main__":
    main(*((256, 1000) if "--quick" in sys.argv else (2048, 20_000)))
