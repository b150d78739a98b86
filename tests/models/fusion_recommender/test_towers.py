"""Towers against plain PyTorch, an entity at a time, looking only at what is present."""

from __future__ import annotations

import pytest
import torch
from recommender_support import histories, network
from torch import Tensor, nn

from fusionops.models.fusion_recommender.model import FusionNetwork
from fusionops.models.fusion_recommender.profile import ProfileFusion

FUSIONS = ["weighted", "attention", "deep"]
BEHAVIOURS = ["mean", "attention", "gru", "transformer"]
GIVEN = ([3, 1, 4], [], [1, 5, 9, 2, 6], [7], [0, 10])
USERS = torch.tensor([2, 0, -1, 4, 1])


def pooled(module: nn.Module, tokens: Tensor) -> Tensor:
    """By torch's own attention, from the learned query."""
    heads = nn.MultiheadAttention(module.dim, module.num_heads, batch_first=True)
    state = {key: value for key, value in module.state_dict().items() if key != "query"}
    heads.load_state_dict(state)
    return heads(module.query[None], tokens[None], tokens[None], need_weights=False)[0][0, 0]


def profile(fusion: ProfileFusion, tokens: dict[str, Tensor]) -> Tensor:
    """The tokens that are present to one vector."""
    dim = fusion.kind.shape[1]
    if not tokens:
        return torch.zeros(dim)
    past = tokens.get(fusion.names[fusion.residual or 0], torch.zeros(dim))
    if fusion.zeros_for_missing:
        tokens = {name: tokens.get(name, torch.zeros(dim)) for name in fusion.names}
    kinds = {name: fusion.kind[place] for place, name in enumerate(fusion.names)}
    rows = torch.stack([tokens[name] + kinds[name] for name in fusion.names if name in tokens])
    if fusion.blocks:
        for block in fusion.blocks:
            layer = nn.TransformerEncoderLayer(
                dim,
                block.self_attn.num_heads,
                4 * dim,
                0.0,
                "gelu",
                norm_first=True,
                batch_first=True,
            ).eval()
            layer.load_state_dict(block.state_dict(), strict=False)
            rows = layer(rows[None])[0]
        fused = pooled(fusion.blocks[-1].pool, fusion.blocks[-1].norm3(rows))
    elif hasattr(fusion.pool, "in_proj_weight"):
        fused = pooled(fusion.pool, rows)
    else:
        there = [place for place, name in enumerate(fusion.names) if name in tokens]
        gates = (rows @ fusion.pool.weight + fusion.pool.bias[there]).softmax(0)
        fused = gates @ rows
    if fusion.residual is None:
        return fused
    return past + fusion.gate * fused


def item_profiles(net: FusionNetwork) -> Tensor:
    tower = net.item_tower
    profiles = []
    for code in range(net.config.num_items):
        tokens = {
            name: tower.projections[name](tower.features(name)[code])
            for name in net.config.item_features
            if tower.presence(name)[code]
        }
        if tower.ids is not None and tower.id_known[code]:
            tokens["id"] = tower.ids.weight[code]
        profiles.append(profile(tower.fusion, tokens))
    return torch.stack(profiles)


def behaviour(net: FusionNetwork, rows: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    """What the items of one history, ``[n, D]``, say together."""
    tower = net.user_tower
    if tower.sequence is not None:
        found = tower.sequence(rows, torch.tensor([0, len(rows)]))[0]
    elif tower.query is not None:
        found = (rows @ tower.query[0] * rows.shape[1] ** -0.5).softmax(0) @ rows
    else:
        found = (weights * scale) @ rows / weights.square().sum().sqrt()
    return tower.projection.weight @ found


def review_token(net: FusionNetwork, chosen: Tensor) -> Tensor | None:
    part = net.user_tower.reviews
    there = chosen[part.present[chosen]]
    if not len(there):
        return None
    mean = part.vectors[there].mean(0)
    rated = (part.ratings[there, None] * part.vectors[there]).mean(0)
    return part.projection(torch.cat([mean, rated]))


def user_profiles(net: FusionNetwork, given, users: Tensor) -> tuple[Tensor, Tensor]:
    tower, items, item = net.user_tower, net.item_tower, item_profiles(net)
    profiles, present = [], []
    for row, user in enumerate(users.tolist()):
        place = slice(given.offsets[row], given.offsets[row + 1])
        codes, weights = given.items[place], given.weights[place]
        tokens = {}
        for kind, name in enumerate(tower.behaviours):
            own = slice(None) if given.events is None else given.events[place] == kind
            if len(codes[own]):
                scale = items.history_scale[codes[own]]
                tokens[name] = behaviour(net, item[codes[own]], weights[own], scale)
        for name in net.config.item_features if net.config.touched else ():
            there = items.presence(name)[codes]
            if there.any():
                share = weights[there] / weights[there].sum()
                mean = share @ items.features(name)[codes[there]]
                tokens[f"touched:{name}"] = items.projections[name](mean)
        if tower.reviews is not None and user >= 0:
            offsets = tower.reviews.offsets
            token = review_token(net, torch.arange(offsets[user], offsets[user + 1]))
            tokens |= {} if token is None else {"reviews": token}
        if tower.ids is not None and user >= 0:
            tokens["id"] = tower.ids.weight[user]
        profiles.append(profile(tower.fusion, tokens))
        present.append(bool(tokens))
    return torch.stack(profiles), torch.tensor(present)


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("missing", ["left_out", "zeros"])
def test_items(fusion, residual, missing):
    net = network(fusion=fusion, num_layers=2, residual=residual, missing=missing)
    found = net.item_tower()
    torch.testing.assert_close(found, item_profiles(net), atol=2e-6, rtol=1e-5)
    rows = torch.tensor([7, 0, 7, 3])
    torch.testing.assert_close(net.item_tower(rows), found[rows], atol=2e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("behaviour_kind", BEHAVIOURS)
@pytest.mark.parametrize("n_events", [0, 2])
@pytest.mark.parametrize("missing", ["left_out", "zeros"])
def test_users(fusion, behaviour_kind, n_events, missing):
    net = network(
        missing=missing,
        fusion=fusion,
        behaviour=behaviour_kind,
        user_ids=True,
        review_width=4,
        num_reviews=13,
        events=["buy", "view"][:n_events],
    )
    given = histories(*GIVEN, n_events=n_events)
    found, present = net.user_tower(net.item_tower(), given, net.item_tower, None, USERS)
    expected, there = user_profiles(net, given, USERS)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5)
    assert torch.equal(present, there)


@torch.no_grad()
def test_histories_over_some_of_the_items():
    """Training looks only at items with history: codes there are places among these."""
    net = network(fusion="deep")
    rows = torch.tensor([1, 2, 3, 5, 8, 10])
    places, codes = histories([0, 3, 5], [2]), histories([1, 5, 10], [3])
    some, _ = net.user_tower(
        net.item_tower(rows), places, net.item_tower, rows, torch.tensor([0, 1])
    )
    whole, _ = net.user_tower(net.item_tower(), codes, net.item_tower, None, torch.tensor([0, 1]))
    torch.testing.assert_close(some, whole, atol=2e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_nothing_known_is_a_zero_profile(fusion):
    net = network(fusion=fusion, user_ids=True)
    tower = net.item_tower
    for name in ("text", "image"):
        tower.presence(name)[4] = False
    tower.id_known[4] = False
    item = tower()
    assert not item[4].any()
    assert item[:4].any()
    user, present = net.user_tower(item, histories([], [1]), tower, None, torch.tensor([-1, -1]))
    assert not user[0].any()
    assert present.tolist() == [False, True]


@torch.no_grad()
@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_masked_says_nothing(fusion):
    net = network(fusion=fusion)
    given = histories([3, 1], [5])
    users = torch.tensor([0, 1])
    tower = net.item_tower
    tower.presence("text")[3] = False
    item = tower()
    user, _ = net.user_tower(item, given, tower, None, users)
    tower.features("text")[~tower.presence("text")] = 1e6
    tower.ids.weight[~tower.id_known] = torch.nan
    assert torch.equal(tower(), item)
    assert torch.equal(net.user_tower(item, given, tower, None, users)[0], user)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("rows", [None, torch.tensor([4, 9, 0, 2, 7])])
def test_a_chunk_at_a_time_is_the_whole(fusion, rows):
    """Values, and gradients of what is made again in the backward pass, dropout included."""
    results = []
    for step in (4, 4096):
        net = network(fusion=fusion, items_per_chunk=step, dropout=0.0)
        profiles = net.item_tower(rows)
        profiles.square().sum().backward()
        grads = {name: value.grad for name, value in net.item_tower.named_parameters()}
        results.append((profiles.detach(), grads))
    torch.testing.assert_close(results[0][0], results[1][0], atol=2e-6, rtol=1e-5)
    for name, grad in results[1][1].items():
        torch.testing.assert_close(results[0][1][name], grad, atol=2e-5, rtol=1e-4)


def test_the_backward_pass_drops_what_the_forward_pass_dropped():
    net = network(fusion="deep", items_per_chunk=3, dropout=0.5, modality_dropout=0.5).train()
    parameter = net.item_tower.fusion.blocks[0].linear2.bias

    def loss() -> Tensor:
        torch.manual_seed(3)
        return net.item_tower().square().sum()

    (grad,) = torch.autograd.grad(loss(), parameter)
    step = torch.zeros_like(parameter)
    step[0] = 1e-2
    with torch.no_grad():
        parameter += step
        above = loss()
        parameter -= 2 * step
        below = loss()
    assert float(above - below) / 2e-2 == pytest.approx(float(grad[0]), rel=2e-2)


def test_live_vectors_stand_in_for_kept_ones_and_have_a_gradient():
    net = network()
    tower, rows = net.item_tower, torch.tensor([6, 2, 9])
    tower.presence("text")[rows] = True
    made = torch.randn(2, 5, requires_grad=True)
    profiles = tower(rows, live={"text": (torch.tensor([0, 2]), made)})
    profiles.sum().backward()
    assert made.grad.abs().sum(1).gt(0).all()
    with torch.no_grad():
        tower.features("text")[[6, 9]] = made
        torch.testing.assert_close(tower(rows), profiles)


RATES = {"modality_dropout": 0.9, "id_dropout": 0.9}


class TestDropout:
    def test_items_keep_something(self):
        net = network(modality_dropout=0.5, id_dropout=0.5).train()
        torch.manual_seed(0)
        mask = torch.rand(500, 3) < 0.7
        kept = net.item_tower._dropped(mask)
        assert torch.equal(kept.any(1), mask.any(1))
        assert not (kept & ~mask).any()
        several = mask.sum(1) > 1
        assert kept[several].sum() < 0.8 * mask[several].sum()

    def test_behaviour_is_never_dropped(self):
        net = network(**RATES, user_ids=True).train()
        assert net.user_tower.tokens == ("behaviour", "touched:text", "touched:image", "id")
        torch.manual_seed(0)
        mask = torch.rand(500, 4) < 0.7
        kept = net.user_tower._dropped(mask)
        assert torch.equal(kept.any(1), mask.any(1))
        assert torch.equal(kept[:, 0], mask[:, 0])
        for token in (1, 2, 3):
            there = mask[:, 0] & mask[:, token]
            assert kept[there, token].float().mean() < 0.25

    def test_ids_have_a_rate_of_their_own(self):
        net = network(modality_dropout=0.0, id_dropout=0.9, user_ids=True).train()
        torch.manual_seed(0)
        mask = torch.ones(400, 3, dtype=torch.bool)
        kept = net.item_tower._dropped(mask).float().mean(0)
        assert kept[:2].tolist() == [1, 1]
        assert 0 < kept[2] < 0.25

    def test_only_in_training(self):
        net = network(**RATES)
        assert torch.equal(net.item_tower(), net.item_tower())
        net.train()
        assert not torch.equal(net.item_tower(), net.item_tower())


@torch.no_grad()
@pytest.mark.parametrize("token_norm", [True, False])
def test_without_the_norm_a_token_is_linear_in_the_features(token_norm):
    net = network(token_norm=token_norm)
    token = net.item_tower.projections["text"]
    vectors = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    origin = token(torch.zeros(1, 5))
    is_linear = torch.allclose(
        token(3 * vectors) - origin, 3 * (token(vectors) - origin), atol=1e-5
    )
    assert is_linear is not token_norm


@torch.no_grad()
def test_with_zeros_for_missing_the_present_weigh_what_they_weigh_among_all():
    net = network(missing="zeros", residual=False)
    fusion = net.item_tower.fusion
    fusion.kind.zero_()
    fusion.pool.weight.zero_()
    fusion.pool.bias.zero_()
    tokens = torch.ones(1, 3, net.config.dim)
    alone = torch.tensor([[True, False, False]])
    torch.testing.assert_close(fusion(tokens, alone), tokens[:, 0] / 3)
