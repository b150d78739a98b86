"""What a batch costs, against the references of the operators, and the second stage."""

from __future__ import annotations

import pytest
import torch
from recommender_support import network
from torch import Tensor

from fusionops import reference
from fusionops.models.fusion_recommender.histories import RaggedHistories
from fusionops.models.fusion_recommender.reranker import Reranker

NORMALIZATIONS = ["diagonal", "matrix", "cosine", "none"]


def batch(n_items: int = 11) -> dict[str, Tensor]:
    """Three users of whom the second asks for two items, the last beside a long history."""
    return {
        "users": torch.tensor([2, 0, 4]),
        "history_items": torch.tensor([3, 1, 5, 0, 9, 2, 7]) % n_items,
        "history_offsets": torch.tensor([0, 2, 3, 7]),
        "history_weights": torch.linspace(0.5, 1.5, 7),
        "targets": torch.tensor([4, 6, 8, 10]) % n_items,
        "target_offsets": torch.tensor([0, 1, 3, 4]),
        "positives": torch.tensor([1, 3, 4, 5, 6, 8, 0, 2, 7, 9, 10]) % n_items,
        "positive_offsets": torch.tensor([0, 3, 6, 11]),
    }


def sides(net, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    item = net.item_tower()
    histories = RaggedHistories(
        given["history_items"], given["history_offsets"], given["history_weights"]
    )
    return net.user_tower(item, histories, net.item_tower, None, given["users"])[0], item


def all_warm(**choices):
    net = network(**choices)
    net.item_tower.has_history.fill_(True)
    net.loss.reset_parameters()
    return net


OF_USER = torch.tensor([0, 1, 1, 2])
EXCLUDED = (
    torch.tensor([0, 3, 6, 9, 14]),
    torch.tensor([1, 3, 4, 5, 6, 8, 5, 6, 8, 0, 2, 7, 9, 10]),
)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_softmax_over_the_catalogue_without_known_positives(normalization, label_smoothing):
    choices = {"normalization": normalization, "ridge": 0.1, "label_smoothing": label_smoothing}
    net = all_warm(**choices, scale=3.0, popularity_correction=0.7)
    given = batch()
    found = net(**given)
    user, item = sides(net, given)
    expected = reference.fusion_cross_entropy(
        user[OF_USER],
        item,
        given["targets"],
        scale=3.0,
        item_bias=0.7 * net.log_popularity,
        exclude=EXCLUDED,
        label_smoothing=label_smoothing,
        normalization=normalization,
        ridge=0.1,
    )
    torch.testing.assert_close(found["loss"], expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found["loss"].detach(), found["retrieval_loss"])
    ours, theirs = (
        torch.autograd.grad(loss, [*net.item_tower.parameters(), *net.user_tower.parameters()])
        for loss in (found["loss"], expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


def test_a_batch_counts_among_the_items_with_history():
    """Leaving out items without history is the same as a catalogue without them."""
    net = all_warm(popularity_correction=1.0)
    net.item_tower.has_history[[2, 5]] = False
    rows = net.trained_rows()
    assert rows.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10]
    given = batch(9)
    item = net.item_tower(rows)
    histories = RaggedHistories(
        given["history_items"], given["history_offsets"], given["history_weights"]
    )
    user, _ = net.user_tower(item, histories, net.item_tower, rows, given["users"])
    lists = (EXCLUDED[0], EXCLUDED[1] % 9)
    expected = reference.fusion_cross_entropy(
        user[OF_USER],
        item,
        given["targets"],
        scale=net.loss.scale.detach(),
        item_bias=net.log_popularity[rows],
        exclude=lists,
        normalization="none",
    )
    torch.testing.assert_close(net(**given)["loss"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_contrastive_is_symmetric_within_the_batch(normalization):
    net = all_warm(loss="contrastive", normalization=normalization, ridge=0.1, scale=2.0)
    given = batch()
    user, item = sides(net, given)
    asked = given["targets"]
    expected = reference.fusion_contrastive(
        user[OF_USER], item[asked], scale=2.0, ids=asked, normalization=normalization, ridge=0.1
    )
    torch.testing.assert_close(net(**given)["loss"], expected, atol=1e-5, rtol=1e-4)


def test_popularity_is_corrected_in_training_and_left_out_in_serving():
    plain, corrected = all_warm(), all_warm(popularity_correction=1.0)
    given = batch()
    losses = [float(net(**given)["loss"].detach()) for net in (plain, corrected)]
    assert losses[0] != losses[1]
    vectors = [net.score_vectors(net.item_tower(), None)[0] for net in (plain, corrected)]
    assert torch.equal(*vectors)


class TestSecondStage:
    def test_it_starts_at_the_order_of_retrieval(self):
        torch.manual_seed(0)
        stage = Reranker(8)
        scores = torch.randn(3, 6)
        there = torch.ones(3, 6, dtype=torch.bool)
        there[1, 4:] = False
        found = stage(
            torch.randn(3, 4, 8),
            torch.randn(3, 6, 8),
            scores,
            history_mask=torch.rand(3, 4) < 0.5,
            candidate_mask=there,
        )
        assert torch.equal(found[there], scores[there])
        assert torch.equal(found[~there], torch.full((2,), -torch.inf))

    def test_it_follows_its_formula_entity_by_entity(self):
        torch.manual_seed(1)
        stage = Reranker(8)
        torch.nn.init.normal_(stage.output.weight)
        history, candidates = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
        scores = torch.randn(2, 4)
        lengths, counts = (3, 5), (4, 2)
        masks = [
            torch.arange(width) < torch.tensor(sizes)[:, None]
            for width, sizes in ((5, lengths), (4, counts))
        ]
        found = stage(history, candidates, scores, history_mask=masks[0], candidate_mask=masks[1])
        for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            h, c = stage.norm(history[row, :length]), stage.norm(candidates[row, :count])
            asked, given = stage.fusion.user_proj(h).chunk(2, -1)
            offered, taken = stage.fusion.item_proj(c).chunk(2, -1)
            match = asked @ offered.T * 8**-0.5
            context = (match.softmax(1) @ taken).mean(0).expand(count, 8)
            own = match.softmax(0).T @ given
            hidden = stage.hidden(torch.cat([c, own, c * own, context], 1))
            change = stage.output(torch.nn.functional.gelu(hidden))[:, 0]
            torch.testing.assert_close(found[row, :count], scores[row, :count] + change)
            assert (found[row, count:] == -torch.inf).all()

    @torch.no_grad()
    def test_the_network_reads_the_latest_items_only(self):
        net = network(rerank_candidates=4, rerank_history=2)
        torch.nn.init.normal_(net.reranker.output.weight)
        item, user = torch.randn(11, 8), torch.randn(2, 8)
        candidates = torch.tensor([[1, 4, -1], [0, 2, 3]])

        def ranked(first: int) -> Tensor:
            histories = RaggedHistories(
                torch.tensor([first, 5, 6, 7]), torch.tensor([0, 3, 4]), torch.ones(4)
            )
            return net.rerank(user, item, histories, candidates)

        assert torch.equal(ranked(3), ranked(8))
        assert ranked(3)[0, 2] == -torch.inf

    @torch.no_grad()
    def test_no_history_at_all_still_ranks(self):
        net = network(rerank_candidates=4)
        nothing = RaggedHistories(
            torch.empty(0, dtype=torch.long), torch.zeros(3, dtype=torch.long), torch.empty(0)
        )
        candidates = torch.tensor([[1, 4, -1], [0, 2, 3]])
        found = net.rerank(torch.randn(2, 8), torch.randn(11, 8), nothing, candidates)
        assert found.isfinite().tolist() == [[True, True, False], [True, True, True]]

    def test_it_learns_without_moving_the_first_stage(self):
        given = batch()
        first, both = all_warm(), all_warm(rerank_candidates=5)
        both.load_state_dict(first.state_dict(), strict=False)
        torch.nn.init.normal_(both.reranker.output.weight)
        plain, parts = first(**given), both(**given)
        torch.testing.assert_close(plain["loss"].detach(), parts["retrieval_loss"])
        torch.testing.assert_close(
            parts["loss"].detach(), parts["retrieval_loss"] + parts["rerank_loss"]
        )
        parts["loss"].backward()
        plain["loss"].backward()
        for name, value in first.named_parameters():
            if not name.startswith("loss."):
                torch.testing.assert_close(both.get_parameter(name).grad, value.grad)
        assert all(value.grad is not None for value in both.reranker.parameters())
