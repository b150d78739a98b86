"""use_backend and skip_small_gradients hold inside their block, whoever enters and leaves when."""

from __future__ import annotations

import threading

import pytest
import torch
from support import inputs
from torch._dynamo.testing import CompileCounterWithBackend

from fusionops import backend, fusion_matrix, use_backend
from fusionops.ops import _skipping, skip_small_gradients


def serving():
    """Who serves a fusion matrix of CPU tensors now."""
    return backend.serving("fusion_matrix", torch.empty(1))


# A manager per value, and what the operators read of it; outside of all blocks, the last one.
SCOPES = {
    "use_backend": (
        lambda: (use_backend("reference"), use_backend("cpu")),
        serving,
        ("reference", "kernels", "kernels"),
    ),
    "skip_small_gradients": (
        lambda: (skip_small_gradients(0.5), skip_small_gradients(0.25)),
        lambda: _skipping.threshold(torch.float32, 10),
        (0.5, 0.25, 0.0),
    ),
}


@pytest.fixture(params=SCOPES)
def scopes(request):
    make, read, values = SCOPES[request.param]
    assert read() == values[2]
    yield *make(), read, values
    assert read() == values[2]


def test_blocks_that_overlap(scopes):
    """Enter a, enter b, leave a, leave b, as two threads may."""
    a, b, read, (of_a, of_b, outside) = scopes
    a.__enter__()
    assert read() == of_a
    b.__enter__()
    assert read() == of_b
    a.__exit__(None, None, None)
    assert read() == of_b
    b.__exit__(None, None, None)
    assert read() == outside


def test_an_instance_entered_again(scopes):
    a, b, read, (of_a, of_b, outside) = scopes
    with a:
        with b, a:
            assert read() == of_a
            with b:
                assert read() == of_b
            assert read() == of_a
        assert read() == of_a
    assert read() == outside
    with a:
        assert read() == of_a


def test_many_threads(scopes):
    a, b, read, (_, _, outside) = scopes
    start = threading.Barrier(8)

    def enter_and_leave(first, second):
        start.wait()
        for _ in range(2000):
            with first, second, first:
                read()

    threads = [threading.Thread(target=enter_and_leave, args=pair) for pair in [(a, b), (b, a)] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read() == outside


def test_around_compiled_code():
    """The choice is guarded: each has a graph of its own, and neither is compiled twice."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(fusion_matrix, fullgraph=True, dynamic=True, backend=counter)
    user, item = inputs((5, 9, 4), torch.float32)
    counts = []
    for _ in range(3):
        compiled(user, item)
        with use_backend("reference"):
            compiled(user, item)
        counts.append(counter.frame_count)
    assert counts == [2] * 3
    natives = [
        any("fusionops" in str(node.target) for node in graph.graph.nodes)
        for graph in counter.graphs
    ]
    assert natives == [True, False]
    torch._dynamo.reset()


def test_threshold_around_compiled_code():
    torch._dynamo.reset()
    compiled = torch.compile(
        lambda x: x * _skipping.threshold(x.dtype, 10), fullgraph=True, backend="eager"
    )
    for _ in range(2):
        assert float(compiled(torch.ones(()))) == 0
        for below in (0.5, 0.25):
            with skip_small_gradients(below):
                assert float(compiled(torch.ones(()))) == below
    torch._dynamo.reset()


@pytest.mark.parametrize("outer", [None, "cpu", "reference"])
def test_inside_compiled_code(outer):
    """A block in the traced function leaves those around it as they were."""
    torch._dynamo.reset()

    def function(user, item):
        scope = use_backend("reference")
        with scope, skip_small_gradients(), use_backend("cpu"), scope:
            return fusion_matrix(user, item)

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="eager")
    user, item = inputs((5, 9, 4), torch.float32)
    expected = fusion_matrix(user, item)
    for _ in range(2):
        if outer is None:
            torch.testing.assert_close(compiled(user, item), expected)
        else:
            with use_backend(outer):
                torch.testing.assert_close(compiled(user, item), expected)
                assert serving() == {"cpu": "kernels"}.get(outer, outer)
        assert serving() == "kernels"
        assert _skipping.threshold(torch.float32, 10) == 0
    torch._dynamo.reset()


def test_compiled_code_that_others_overlap():
    """What is entered or left while a compiled block runs stays entered or left."""
    torch._dynamo.reset()
    meanwhile = []

    def run_meanwhile(graph, _):
        def run(*arguments):
            for action in meanwhile:
                action()
            return graph.forward(*arguments)

        return run

    def function(user, item):
        with use_backend("cpu"):
            return fusion_matrix(user, item)

    compiled = torch.compile(function, fullgraph=True, backend=run_meanwhile)
    sides = inputs((5, 9, 4), torch.float32)
    other = use_backend("reference")
    compiled(*sides)
    with other:
        compiled(*sides)
    meanwhile[:] = [other.__enter__]
    compiled(*sides)
    assert serving() == "reference"
    meanwhile[:] = [lambda: other.__exit__(None, None, None)]
    compiled(*sides)
    assert serving() == "kernels"
    with other:
        assert serving() == "reference"
    torch._dynamo.reset()


def test_left_more_often_than_entered():
    with pytest.raises(RuntimeError, match="use_backend: left more often than entered"):
        use_backend("cpu").__exit__(None, None, None)
