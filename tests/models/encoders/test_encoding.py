"""Encoding once, again, after a kill, beside another run; and what cannot be read."""

import fcntl
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from letters import WIDTH, Files, Letters

from fusionops.data import Encoded, IdMap
from fusionops.models.encoders.encoding import encode
from fusionops.models.encoders.work_folder import work_folder

TESTS = Path(__file__).parents[2]
WORDS = [f"{colour} {thing}" for colour in ("red", "green") for thing in ("mug", "pot", "teapot")]


def ids(contents) -> IdMap:
    return IdMap([f"i{number}" for number in range(len(contents))])


def run(contents, path=None, encoder=None, **options):
    """One run: the vectors, the sentences, and what the encoder was handed."""
    encoder = encoder or Letters()
    found, problems = encode(encoder, ids(contents), contents, path=path, **options)
    return found, [problem.sentence for problem in problems], encoder.prepared


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features" / "title.safetensors"


def test_every_row_has_the_vector_of_its_content():
    contents = [*WORDS, None, "  ", WORDS[0]]
    found, problems, _ = run(contents, batch_size=2)
    assert not problems
    assert found.ids == ids(contents)
    assert found.present.tolist() == [True] * 6 + [False, False, True]
    encoder = Letters().eval()
    for row, text in enumerate(WORDS):
        alone = encoder(**encoder.collate([encoder.prepare(text)]))[0]
        np.testing.assert_allclose(found.vectors[row], alone.detach(), rtol=1e-5, atol=1e-6)
    assert not found.vectors[6:8].any()
    assert np.array_equal(found.vectors[8], found.vectors[0])
    assert found.source == {"modality": "text", "fingerprint": encoder.fingerprint()}


def test_equal_contents_are_encoded_once():
    found, _, prepared = run(WORDS * 3)
    assert sorted(prepared) == sorted(WORDS)
    assert np.array_equal(found.vectors[:6], found.vectors[6:12])


def test_batches_are_of_one_length_within_both_limits_the_longest_first():
    encoder = Letters()
    lengths = [1, 30, 2, 29, 3, 28, 4, 27, 100]
    texts = [chr(97 + number) * length for number, length in enumerate(lengths)]
    run(texts, encoder=encoder, batch_size=3, budget=60)
    assert encoder.batches == [(1, 100), (2, 30), (2, 28), (3, 4), (1, 1)]


def test_modes_are_left_alone():
    encoder = Letters().train()
    encoder.dropout.eval()
    run(WORDS, encoder=encoder)
    assert encoder.training
    assert encoder.embedding.training
    assert not encoder.dropout.training


def test_what_a_model_keeps_of_a_forward_pass_can_be_trained_with():
    class Keeps(Letters):
        def encode(self, codes):
            if not hasattr(self, "table"):  # as tables of positions are
                self.table = torch.ones(WIDTH)
            return super().encode(codes) * self.table

    encoder = Keeps()
    run(WORDS, encoder=encoder)
    encoder(codes=torch.zeros(1, 1, dtype=torch.long)).sum().backward()
    assert encoder.embedding.weight.grad is not None


def test_a_second_run_uses_everything_again(path):
    first, _, _ = run(WORDS, path, source={"model": "letters"})
    assert list(path.parent.iterdir()) == [path]
    second, _, prepared = run(WORDS, path, source={"model": "letters"})
    assert not prepared
    loaded = Encoded.load(path)
    for found in (second, loaded):
        assert found.vectors.tobytes() == first.vectors.tobytes()
        assert found.source == first.source
    assert loaded.source["model"] == "letters"


def test_only_what_changed_is_encoded_again(path):
    run(WORDS, path)
    changed = [*WORDS[:2], "blue bowl", *WORDS[3:], "new jug"]
    found, _, prepared = run(changed, path)
    assert sorted(prepared) == ["blue bowl", "new jug"]
    fresh, _, _ = run(changed)
    np.testing.assert_allclose(found.vectors, fresh.vectors, rtol=1e-5, atol=1e-6)
    assert len(Encoded.load(path)) == 7
    # Ids are what rows are called; vectors go by the content.
    moved, _, prepared = run(changed[::-1], path)
    assert not prepared
    assert np.array_equal(moved.vectors, found.vectors[::-1])


def test_another_model_encodes_everything_again(path):
    first, _, _ = run(WORDS, path)
    second, _, prepared = run(WORDS, path, Letters(seed=1))
    assert sorted(prepared) == sorted(WORDS)
    assert not np.allclose(second.vectors, first.vectors)
    assert Encoded.load(path).source["fingerprint"] == Letters(seed=1).fingerprint()


def test_vectors_that_were_not_saved_with_hashes_are_not_used_again(path):
    first, _, _ = run(WORDS)
    first.save(path)
    assert len(run(WORDS, path)[2]) == len(WORDS)


def test_files_go_by_what_is_in_them(tmp_path, path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_text(f"picture {name}")
    (tmp_path / "copy").write_text("picture a")
    monkeypatch.setenv("HOME", str(tmp_path))
    contents = ["a", Path("b"), str(tmp_path / "c"), "~/copy"]
    _, problems, prepared = run(contents, path, Files(), base_folder=tmp_path)
    assert not problems
    assert len(prepared) == 3
    (tmp_path / "b").write_text("another picture")
    os.utime(tmp_path / "a", (0, 0))  # touched, not changed
    _, _, prepared = run(contents, path, Files(), base_folder=tmp_path)
    assert prepared == [tmp_path / "b"]


def test_arrays_go_by_their_numbers_and_shape():
    arrays = [np.arange(6.0), np.arange(6.0).reshape(2, 3), np.arange(6.0)[::-1], np.arange(6.0)]
    assert len(run(arrays, encoder=Files())[2]) == 3


def test_what_cannot_be_read_is_told_by_id_and_missing(tmp_path, path):
    (tmp_path / "good").write_text("picture")
    (tmp_path / "bad").write_text("BAD picture")
    (tmp_path / "copy").write_text("BAD picture")
    contents = ["good", "bad", None, "none", "copy", ".", "good\0"]
    for _ in range(2):  # a second run tells it again
        found, problems, prepared = run(contents, path, Files(), base_folder=tmp_path)
        assert found.present.tolist() == [True] + [False] * 6
        assert not found.vectors[1:].any()
        assert problems == [
            "image of 'i1', bad: it begins with BAD; taken as missing",
            "image of 'i3', none: No such file or directory; taken as missing",
            "image of 'i4', copy: it begins with BAD; taken as missing",
            "image of 'i5', .: Is a directory; taken as missing",
            "image of 'i6', good\0: embedded null byte; taken as missing",
        ]
    assert prepared == [tmp_path / "bad"]
    (tmp_path / "bad").write_text("mended")
    assert run(contents, path, Files(), base_folder=tmp_path)[0].present[1]


def test_a_vector_that_is_not_finite_is_a_problem_of_its_content(path):
    encoder = Letters()
    encoder.embedding.weight.data[ord("q")] = float("nan")
    found, problems, _ = run(["mug", "quilt", "pot"], path, encoder)
    assert found.present.tolist() == [True, False, True]
    assert problems == ["text of 'i1': the model gives NaN or Inf for it; taken as missing"]
    assert Encoded.load(path).present.tolist() == [True, False, True]


def test_progress_begins_with_what_is_used_again(path):
    calls = []
    contents = [*WORDS, WORDS[0], None, "BAD"]
    run(contents, path, batch_size=2, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 8)
    assert calls[-1] == (8, 8)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert len(calls) == 5  # three batches, and what was refused
    calls.clear()
    run(contents, path, progress=lambda *call: calls.append(call))
    assert calls == [(7, 8), (8, 8)]


@pytest.mark.parametrize("what", [None, "  "])
def test_nothing_to_encode(path, what):
    found, problems, prepared = run([what, what], path)
    assert not problems
    assert not prepared
    assert not found.present.any()
    assert Encoded.load(path).width == WIDTH


def test_no_rows(path):
    assert len(run([], path)[0]) == 0
    assert len(Encoded.load(path)) == 0


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"contents": WORDS[:5]}, ValueError, "contents: expected 6, one an id, got 5"),
        ({"contents": [3] * 6}, TypeError, "contents: expected text or None, got int"),
        ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
        ({"budget": 0}, ValueError, "budget: expected at least 1, got 0"),
        ({"ids": ["a"] * 6}, ValueError, "ids must be unique"),
    ],
)
def test_errors(path, change, error, sentence):
    arguments = {"ids": range(6), "contents": WORDS, "path": path} | change
    with pytest.raises(error, match=sentence):
        encode(Letters(), **arguments)
    assert not path.parent.exists()


def test_another_file_at_the_path_is_left_as_it_is(path):
    path.parent.mkdir()
    path.write_text("a letter")
    with pytest.raises(ValueError, match=r"title\.safetensors: expected a file of fusionops"):
        run(WORDS, path)
    assert path.read_text() == "a letter"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(IsADirectoryError, match="got the folder"):
        run(WORDS, path.parent)


# --- runs that end early, and beside each other -----------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_a_run_that_stops_keeps_its_batches_and_what_was_there(path, error):
    old, _, _ = run(["old"], path)
    with pytest.raises(type(error)):
        run(WORDS, path, Letters(stop=error), batch_size=2)
    assert Encoded.load(path).vectors.tobytes() == old.vectors.tobytes()
    found, _, prepared = run(WORDS, path, batch_size=2)
    assert len(prepared) == 2
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_allclose(found.vectors, run(WORDS)[0].vectors, rtol=1e-5, atol=1e-6)


def test_a_run_that_stops_at_once_leaves_nothing(path):
    with pytest.raises(KeyboardInterrupt):
        run(WORDS, path, progress=interrupt)
    assert list(path.parent.iterdir()) == []


def interrupt(*_):
    raise KeyboardInterrupt


def test_batches_of_another_model_and_damaged_ones_are_not_used(path):
    with pytest.raises(KeyboardInterrupt):
        run(WORDS, path, Letters(stop=KeyboardInterrupt()), batch_size=2)
    batches = sorted((path.parent / f".{path.name}.encoding").glob("*.safetensors"))
    assert len(batches) == 2
    batches[0].write_bytes(batches[0].read_bytes()[:-1])
    (batches[0].parent / ".half.saving-1").write_text("of a batch under way")
    assert len(run(WORDS, path)[2]) == 4
    assert list(path.parent.iterdir()) == [path]
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(WORDS, path, Letters(stop=KeyboardInterrupt()), batch_size=2)
    assert len(run(WORDS, path, Letters(seed=1))[2]) == 6


KILLED = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from letters import Letters
    from fusionops.models.encoders.encoding import encode
    texts = [f"{number:03d}" for number in range(400)]
    say = lambda done, total: print(done, flush=True)
    encode(Letters(seconds=0.02), range(400), texts, path=sys.argv[1], batch_size=4, progress=say)
"""


def start(path) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(TESTS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_taken_up_where_it_was(path, stop):
    done = 0
    process = start(path)
    with process, process.stdout as said:
        for line in itertools.islice(said, 12):
            done = int(line)
        # While it is alive, nobody else gets in, by whatever name the target is called.
        link = path.with_name("link")
        link.symlink_to(path.name)
        for target in (path, link):
            with pytest.raises(BlockingIOError, match="another run is encoding into it"):
                run(WORDS, target)
        link.unlink()
        process.send_signal(stop)
    assert process.returncode != 0
    assert not path.exists()
    texts = [f"{number:03d}" for number in range(400)]
    found, _, prepared = run(texts, path)
    assert done == 44
    assert len(prepared) <= 400 - done
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_allclose(found.vectors, run(texts)[0].vectors, rtol=1e-5, atol=1e-6)


def test_a_lock_that_the_last_run_takes_away_is_none(path, monkeypatch):
    flock, calls = fcntl.flock, []

    def late(handle, how):
        calls.append(how)
        if len(calls) == 1:  # between opening and locking, another run ends
            (path.parent / f".{path.name}.encoding" / "lock").unlink()
        flock(handle, how)

    monkeypatch.setattr("fcntl.flock", late)
    with work_folder(path, "model"):
        assert len(calls) == 2
        with pytest.raises(BlockingIOError), work_folder(path, "model"):
            pass
    assert list(path.parent.iterdir()) == []


def test_runs_side_by_side_take_turns_or_are_told(path):
    told, done = [], []

    def go(seed):
        try:
            done.append(run(WORDS, path, Letters(seed, 0.001), batch_size=1)[0])
        except BlockingIOError as error:
            told.append(str(error))

    threads = [threading.Thread(target=go, args=(number % 3,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) + len(done) == 12
    assert list(path.parent.iterdir()) == [path]
    last = Encoded.load(path)
    assert last.vectors.tobytes() in [found.vectors.tobytes() for found in done]
