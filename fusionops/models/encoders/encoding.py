"""Features of many things at once: each content encoded once, in batches, kept and used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fusionops.data import Encoded, IdMap, Problem
from fusionops.data.encoded_file import write_encoded
from fusionops.models.encoders.base import Encoder, Unreadable
from fusionops.models.encoders.contents import Content, Contents, Vector
from fusionops.models.encoders.work_folder import work_folder

Progress = Callable[[int, int], None]

_BUDGETS = {"text": 16_384, "audio": 120 * 16_000}

_BATCHES_AT_ONCE = 8
"""So many batches are held prepared, to be sorted by their true lengths."""


def encode(
    encoder: Encoder,
    ids: IdMap | npt.ArrayLike,
    contents: Iterable[Any],
    *,
    path: str | Path | None = None,
    batch_size: int = 64,
    budget: int | None = None,
    base_folder: str | Path | None = None,
    source: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Encoded, list[Problem]]:
    """Vectors of things, one each, by an encoder.

    Equal contents are encoded once. With a ``path``, what an earlier run of the same model left
    there is used again: only contents whose hash is new are encoded. Every finished batch is kept
    beside the path until the file is whole, so that a run that was killed is taken up where it
    was. What a batch is filled up with moves vectors by rounding (about 1e-6 of their length), and
    batches depend on what is left to be done: to that tolerance, not to the bit, vectors do not
    depend on what was used again.

    Parameters
    ----------
    encoder : Encoder
        Used in evaluation mode, on the device that it is on, without gradients.
    ids : IdMap or array-like of ids
        Whose contents they are, ``[n]``.
    contents : iterable of str, Path, array or None
        ``[n]``, text or, for other modalities, paths of files; None or blank where there is none.
    path : str or Path, optional
        The file of vectors; replaced as a whole when all are there. Without, nothing is kept.
    batch_size : int
        The most things in a batch.
    budget : int, optional
        The most tokens, samples or windows in a batch, padding counted: the unit is that of
        :meth:`Encoder.length`; what is longer is alone. By default 16,384 tokens of text, two
        minutes of sound in samples, and no limit for pictures.
    base_folder : str or Path, optional
        What relative paths are relative to; by default the working directory.
    source : mapping of str to str, optional
        More to be said in ``Encoded.source``, beside the modality and the fingerprint.
    progress : callable, optional
        Called with how many contents are done and how many there are: first with those that are
        used again, then after every batch.

    Returns
    -------
    encoded : Encoded
        Rows without content, and with one that cannot be read, are missing.
    problems : list of Problem
        One for each content that cannot be read, with its id as the example, in order.

    Raises
    ------
    ValueError
        A number of contents that is not that of the ids; sizes below 1; a file at the path that
        is no undamaged file of vectors.
    BlockingIOError
        Another run is writing to the path.
    """
    ids = ids if isinstance(ids, IdMap) else IdMap(ids)
    contents = list(contents)
    if len(contents) != len(ids):
        raise ValueError(f"contents: expected {len(ids)}, one an id, got {len(contents)}")
    budget = _BUDGETS.get(encoder.modality, batch_size) if budget is None else budget
    for name, number in (("batch_size", batch_size), ("budget", budget)):
        if number < 1:
            raise ValueError(f"{name}: expected at least 1, got {number}")
    rows = Contents(contents, encoder.modality, Path(base_folder or "."))
    fingerprint = encoder.fingerprint()
    about = {**(source or {}), "modality": encoder.modality, "fingerprint": fingerprint}
    with (
        _evaluating(encoder),
        nullcontext() if path is None else work_folder(Path(path), fingerprint) as work,
    ):
        vectors = {} if work is None else work.known()
        tally = _Tally(rows, vectors, progress)
        todo = [content for hash, content in rows.distinct.items() if hash not in vectors]
        for found, refused in _encode_all(encoder, todo, batch_size, budget):
            if work is not None and found:
                work.keep(found)
            vectors |= found
            rows.refused |= refused
            tally.done(*found, *refused)
        encoded, hashes = rows.gather(ids, vectors, encoder.width, about)
        if work is not None and path is not None:
            write_encoded(path, encoded, hashes)
            work.clear()
    return encoded, rows.problems(ids)


class _Tally:
    """Counts the rows that are done."""

    def __init__(
        self, contents: Contents, vectors: Mapping[bytes, Vector], progress: Progress | None
    ) -> None:
        self._counts, self._progress = contents.counts, progress
        self._done = 0
        self.done(*(hash for hash in contents.counts if hash in vectors))

    def done(self, *hashes: bytes) -> None:
        self._done += sum(self._counts[hash] for hash in hashes)
        if self._progress is not None:
            self._progress(self._done, self._counts.total())


def _encode_all(
    encoder: Encoder, contents: Sequence[Content], batch_size: int, budget: int
) -> Iterator[tuple[dict[bytes, Vector], dict[bytes, str]]]:
    """Batch by batch the vectors, and why others have none; the longest first.

    So what does not fit into memory fails at once, and the rest goes faster than it was foretold.
    """
    ordered = sorted(contents, key=lambda content: content.size, reverse=True)
    step = batch_size * _BATCHES_AT_ONCE
    for start in range(0, len(ordered), step):
        prepared: dict[bytes, dict[str, Any]] = {}
        refused: dict[bytes, str] = {}
        for content in ordered[start : start + step]:
            try:
                prepared[content.hash] = encoder.prepare(content.value)
            except Unreadable as error:
                refused[content.hash] = str(error)
        if refused:
            yield {}, refused
        for batch in _grouped(encoder, prepared, batch_size, budget):
            yield _forward(encoder, batch, [prepared[hash] for hash in batch])


def _grouped(
    encoder: Encoder, prepared: Mapping[bytes, dict[str, Any]], batch_size: int, budget: int
) -> Iterator[list[bytes]]:
    """Batches of things of about one length."""
    lengths = {hash: encoder.length(one) for hash, one in prepared.items()}
    ordered = sorted(lengths, key=lengths.__getitem__, reverse=True)
    at = 0
    while at < len(ordered):
        size = min(batch_size, max(1, budget // max(1, lengths[ordered[at]])))
        yield ordered[at : at + size]
        at += size


def _forward(
    encoder: Encoder, hashes: Sequence[bytes], prepared: Sequence[dict[str, Any]]
) -> tuple[dict[bytes, Vector], dict[bytes, str]]:
    device = next((one.device for one in encoder.parameters()), torch.device("cpu"))
    batch = {name: tensor.to(device) for name, tensor in encoder.collate(prepared).items()}
    # Not inference_mode: what a model keeps of a forward pass would be barred from training.
    with torch.no_grad():
        vectors = encoder(**batch).float().cpu().numpy()
    finite = np.isfinite(vectors).all(axis=1).tolist()
    found = {hash: row for hash, row, good in zip(hashes, vectors, finite, strict=True) if good}
    refused = {
        hash: "the model gives NaN or Inf for it"
        for hash, good in zip(hashes, finite, strict=True)
        if not good
    }
    return found, refused


@contextmanager
def _evaluating(encoder: Encoder) -> Iterator[None]:
    """Evaluation mode, then every module in the mode that it was in."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
