"""How the operators run on a GPU: determinism, streams, CUDA graphs, compilation, autocast."""

import pytest
import torch
from gpu_support import CALLS, DEVICE, SERVED, SERVED_CALLS, available, calls, chosen, servers
from profile_support import CAST
from support import Recorder, assert_bits, moved

from fusionops import backend

ONE_EACH = list({operator: name for name, operator in CALLS.items()}.values())
CHECKS = ("test_schema", "test_faketensor")
needs_cuda = pytest.mark.skipif(DEVICE.type != "cuda", reason="a matter of CUDA")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        if ours.is_floating_point():
            ours, theirs = ours.nan_to_num(7.0), theirs.nan_to_num(7.0)
        assert_bits(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("name", "server"), SERVED_CALLS)
def test_the_same_bits_on_every_run(name, server, dtype):
    """Of results and gradients; a matter of atomics and of split sums, so with many rows."""
    call = calls(dtype, 20)[name]
    with chosen(server):
        expected = call(call.leaves)
        for _ in range(2):
            assert_same(call(call.leaves), expected)


@needs_cuda
@pytest.mark.parametrize(("name", "server"), SERVED_CALLS)
def test_a_graph_captures_it(name, server):
    """Forward and backward; replayed over other values it gives what an eager call gives."""
    call = calls()[name]
    static = {key: leaf.clone() for key, leaf in call.leaves.items()}
    with chosen(server):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                call(static)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = call(static)
        for factor in (0.5, -1.0):
            other = {key: leaf * factor for key, leaf in call.leaves.items()}
            for key, leaf in static.items():
                leaf.copy_(other[key])
            graph.replay()
            assert_same(captured, call(other))


@needs_cuda
@pytest.mark.parametrize(("name", "server"), SERVED_CALLS)
def test_runs_on_the_current_stream(name, server):
    """On a stream that writes the inputs late: on any other it would see zeros."""
    call = calls()[name]
    with chosen(server):
        expected = call(call.leaves)
        late = {key: torch.zeros_like(leaf) for key, leaf in call.leaves.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)  # cycles, some ten milliseconds
            for key, leaf in late.items():
                leaf.copy_(call.leaves[key])
            found = call(late)
        stream.synchronize()
    assert_same(found, expected)


@needs_cuda
@pytest.mark.parametrize(("name", "server"), SERVED_CALLS)
def test_does_not_wait_for_the_gpu(name, server):
    """By PyTorch's own check: its calls that would wait raise."""
    call = calls()[name]
    with chosen(server):
        call(call.leaves)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            call(call.leaves)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(DEVICE.type != "cuda" or torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize(("name", "server"), SERVED_CALLS)
def test_runs_where_its_tensors_are(name, server):
    """While another device is the current one."""
    first, second = (calls(device=torch.device("cuda", index))[name] for index in (0, 1))
    with chosen(server), torch.cuda.device(0):
        found = second(second.leaves)
        expected = first(first.leaves)
        assert torch.cuda.current_device() == 0
    assert all(part.device.index == 1 for part in found)
    assert_same(moved(found, "cpu"), moved(expected, "cpu"))


@pytest.mark.parametrize("name", ONE_EACH)
def test_compiles_in_one_graph(name):
    """With dynamic shapes; the backend keeps the operators, so the bits are those of eager."""
    call = calls()[name]
    compiled = torch.compile(call.function, fullgraph=True, dynamic=True, backend="aot_eager")
    traced = type(call)(call.name, call.operator, call.leaves, compiled, call.differentiable)
    assert_same(traced(call.leaves), call(call.leaves))


@needs_cuda
@pytest.mark.parametrize("name", ["fusion_topk", "fusion_cross_entropy", "cross"])
def test_inductor_compiles_it(name):
    call = calls()[name]
    compiled = torch.compile(call.function, fullgraph=True)
    with torch.no_grad():
        found, expected = compiled(**call.leaves), call.function(**call.leaves)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ONE_EACH)
def test_autocast_casts_the_profiles_alone(name, dtype):
    if name == "mmr_rerank":
        pytest.skip("nothing is cast: scores order the list")
    call = calls()[name]
    halves = {key: leaf.to(dtype) if key in CAST else leaf for key, leaf in call.leaves.items()}
    expected = call.function(**halves)
    with torch.autocast(DEVICE.type, dtype=dtype):
        found = call.function(**call.leaves)
    assert_same([part.detach() for part in found], [part.detach() for part in expected])


@pytest.mark.parametrize(("name", "server"), [pair for pair in SERVED_CALLS if pair[0] in ONE_EACH])
def test_opcheck(name, server):
    """The operators under the public function, forward and backward, as it calls them."""
    call = calls()[name]
    with chosen(server), Recorder() as recorder:
        call(call.leaves)
    if not recorder.calls:
        pytest.skip("a composition of PyTorch's operators serves it here")
    for operator, args in recorder.calls:
        with chosen(server):
            torch.library.opcheck(operator, tuple(args), test_utils=CHECKS)


@needs_cuda
@pytest.mark.parametrize("operator", sorted(SERVED["cuda"] | SERVED["triton"]))
def test_kernels_serve_without_a_choice(operator):
    """Parity of the composition with the truth would say nothing of them."""
    found = [server for server in servers(operator)[1:] if available(server)]
    if not found:
        pytest.skip("no kernel of ours serves this operator here")
    assert backend.serving(operator, torch.ones(1, device=DEVICE)) == "kernels"
