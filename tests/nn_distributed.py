"""A model of all modules, trained in one process or as a script in each of several.

``python nn_distributed.py WRAPPER RANK WORLD FOLDER``: the processes meet in a file of FOLDER, and
rank 0 leaves the trained state there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from fusionops.nn import (
    AttentionFusion,
    BidirectionalFusion,
    DeepFusion,
    FusionLoss,
    HistoryFusion,
    WeightedFusion,
)

BATCH, ITEMS, WIDTH, STEPS = 8, 12, 8, 3
FLOAT = torch.float64


class Model(nn.Module):
    """The loss of a user, who is a history, for an item, which is three tokens."""

    def __init__(self, device: str | None = None) -> None:
        super().__init__()
        factory = {"device": device, "dtype": FLOAT}
        self.history = HistoryFusion(
            WIDTH, "attention", num_embeddings=ITEMS, learned_query=True, **factory
        )
        self.deep = DeepFusion(WIDTH, 2, **factory)
        self.both = BidirectionalFusion(WIDTH, **factory)
        self.gates = WeightedFusion(3, WIDTH, **factory)
        self.pool = AttentionFusion(WIDTH, 2, num_queries=1, **factory)
        self.loss = FusionLoss(normalization="cosine", **factory)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        user = self.history(batch["ids"], batch["offsets"])
        mask = batch["mask"]
        tokens = self.deep(batch["tokens"], mask)
        user_tokens, item_tokens = self.both(user.unsqueeze(1), tokens, item_mask=mask)
        tokens = tokens + item_tokens  # those alone are alike, as there is one user token
        user = user + user_tokens.squeeze(1) + self.gates(tokens, mask) + self.pool(tokens, mask)
        return self.loss(user, self.history.embedding.weight, batch["target"])


def batch_of(step: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """The part that `rank` has of the batch of a step."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randn(BATCH, 3, WIDTH, generator=generator, dtype=FLOAT)
    mask = torch.rand(BATCH, 3, generator=generator) > 0.3
    ids = torch.randint(ITEMS, (BATCH, 4), generator=generator)
    target = torch.randint(ITEMS, (BATCH,), generator=generator)
    own = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    return {
        "tokens": tokens[own],
        "mask": mask[own],
        "ids": ids[own].flatten(),
        "offsets": torch.arange(BATCH // world + 1) * 4,
        "target": target[own],
    }


def train(model: nn.Module, rank: int = 0, world: int = 1) -> None:
    # Not Adam, which makes steps of the rounding of gradients that are 0, as that of a key's bias.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad()
        model(batch_of(step, rank, world)).backward()
        optimizer.step()


def initial() -> Model:
    torch.manual_seed(0)
    return Model()


def replicated(rank: int, world: int) -> dict[str, Tensor]:
    """Trained under DistributedDataParallel, which finds no parameter without a gradient."""
    model = DistributedDataParallel(initial())
    train(model, rank, world)
    return model.module.state_dict()


def sharded(rank: int, world: int) -> dict[str, Tensor]:
    """Trained under FSDP2, from the meta device, with modules that are shards of their own."""
    options = StateDictOptions(full_state_dict=True)
    model = Model("meta")
    for part in (model.deep, model.both, model.pool, model):
        fully_shard(part)
    model.to_empty(device="cpu")
    for part in model.modules():
        if part is not model and hasattr(part, "reset_parameters"):
            part.reset_parameters()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    set_model_state_dict(model, initial().state_dict(), options=options)
    train(model, rank, world)
    return get_model_state_dict(model, options=options)


def main(wrapper: str, rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    state = {"ddp": replicated, "fsdp2": sharded}[wrapper](rank, world)
    if rank == 0:
        torch.save(state, folder / "state.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
