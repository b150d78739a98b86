"""Bounds by formulas whose values are known."""

import pytest
from comparison import bounds
from comparison.bounds import Machine, Work

MACHINE = Machine(
    peak={"float32": 100.0, "int8": 400.0},
    tile={"float32": {64: 90.0}, "int8": {64: 300.0}},
    memory={"read": 10.0, "write": 5.0, "copy": 12.0},
)


def test_the_longer_of_arithmetic_and_memory():
    arithmetic = MACHINE.bound(Work(1000.0, 20.0, 5.0))
    assert (arithmetic.seconds, arithmetic.by) == (10.0, "float32 arithmetic")
    memory = MACHINE.bound(Work(1000.0, 20.0, 5.0, "int8"))
    assert (memory.seconds, memory.by) == (3.0, "memory")


def test_the_better_of_two_measurements():
    other = Machine(
        peak={"float32": 110.0, "int8": 300.0},
        tile={"float32": {64: 80.0}, "int8": {64: 310.0}},
        memory={"read": 9.0, "write": 6.0, "copy": 12.0},
    )
    best = MACHINE.best_of(other)
    assert best.peak == {"float32": 110.0, "int8": 400.0}
    assert best.tile == {"float32": {64: 90.0}, "int8": {64: 310.0}}
    assert best.memory == {"read": 10.0, "write": 6.0, "copy": 12.0}


def test_forward_and_backward_of_the_loss_are_four_products():
    forward = bounds.fusion_cross_entropy(2048, 50_000, 64, backward=False)
    both = bounds.fusion_cross_entropy(2048, 50_000, 64, backward=True)
    assert forward.operations == 2 * 2048 * 50_000 * 64
    assert both.operations == 4 * forward.operations
    assert both.written < 2048 * 50_000  # streamed: nothing of the size of the scores


def test_recommend_takes_the_cheaper_association():
    many = bounds.fusion_recommend(1024, 100_000, 64, 64, backward=False)
    assert many.operations == 2 * 64 * 64 * (1024 + 100_000)
    one = bounds.fusion_recommend(1, 100_000, 64, 640, backward=False)
    assert one.operations == 2 * 100_000 * (64 + 640)


@pytest.mark.parametrize(("kind", "width"), [("float32", 512), ("bfloat16", 268), ("int8", 140)])
def test_one_user_reads_the_panels_of_a_catalogue_once(kind, width):
    work = bounds.catalog(1, 1_000_000, 128, 20, kind)
    assert work.read == 1_000_000 * width + 512
    assert work.kind == kind


@pytest.mark.parametrize(
    ("forward", "both", "tokens"),
    [
        (bounds.weighted_fusion(7, 4, 64, False), bounds.weighted_fusion(7, 4, 64, True), 4),
        (bounds.attention_pooling(7, 4, 64, False), bounds.attention_pooling(7, 4, 64, True), 4),
        (
            bounds.attention_fusion(7, 4, 64, 2, False),
            bounds.attention_fusion(7, 4, 64, 2, True),
            12,
        ),
    ],
)
def test_tokens_are_read_once_and_so_is_the_gradient(forward, both, tokens):
    values = 4 * 7 * tokens * 64
    assert values <= forward.read < 1.1 * values
    assert both.read == forward.read + forward.written
    assert both.written == forward.written + forward.read
    assert both.operations > 2 * forward.operations


def test_co_attention_computes_its_scores_once_a_pass():
    forward = bounds.bidirectional_fusion(8, 100, 300, 64, backward=False)
    both = bounds.bidirectional_fusion(8, 100, 300, 64, backward=True)
    assert forward.operations == 3 * 2 * 8 * 100 * 300 * 64
    assert both.operations == 10 * 2 * 8 * 100 * 300 * 64
    assert both.written == 2 * forward.written == 2 * 4 * 8 * 400 * 64


def test_histories_read_a_row_of_the_table_once():
    few = bounds.history_fusion(10, 50, 100_000, 64, backward=False, attention=False)
    many = bounds.history_fusion(10_000, 50, 100_000, 64, backward=True, attention=True)
    assert few.read == 500 * 4 * 64 + 8 * 510
    assert many.written == 4 * 64 * (100_000 + 2 * 10_000)


def test_reranking_reads_its_vectors_once():
    work = bounds.mmr_rerank(10, 200, 64, 20)
    assert work.read == 10 * 200 * 65 * 4
    assert work.written == 10 * 20 * 8
