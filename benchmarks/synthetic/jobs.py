"""One contender on one question of one shop: chosen on the validation part, then tested."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from fusionops.data import Split
from fusionops.evaluation import Evaluation, evaluate
from fusionops.files import write_atomically
from fusionops.models.interface.recommender import Recommender

from .contenders import (
    CONTENDERS,
    EPOCHS_BETWEEN_LOOKS,
    MOST_EPOCHS,
    SEEDS,
    Choice,
    Contender,
    World,
)
from .encoding import encode
from .questions import QUESTIONS, SETTINGS, asked, shop, validation

K = 20


@dataclass(frozen=True)
class Job:
    """What is done in one go."""

    setting: str
    question: str
    contender: str

    def file(self, work: Path) -> Path:
        """Where its figures go."""
        words = f"{self.setting} {self.question} {self.contender}".lower()
        return work / f"{''.join(c if c.isalnum() else '-' for c in words)}.json"


@dataclass(frozen=True)
class Chosen:
    """What did best on the validation part."""

    choice: Choice
    epochs: int
    ndcg: float


def all_jobs() -> Iterator[Job]:
    """Every contender on every question that it can answer, the long ones first."""
    order = sorted(CONTENDERS, key=lambda name: not CONTENDERS[name].trained)
    for name in order:
        for setting in SETTINGS:
            for question in QUESTIONS:
                if question in CONTENDERS[name].questions:
                    yield Job(setting, question, name)


def run(job: Job, work: Path) -> None:
    """Choose, fit with every seed, rank, evaluate, write."""
    with contextlib.redirect_stdout(io.StringIO()):  # of the Trainer, which tells its run times
        _run(job, work)


def _run(job: Job, work: Path) -> None:
    torch.set_num_threads(1)
    began = time.perf_counter()
    contender = CONTENDERS[job.contender]
    chosen = choose(contender, job.question, _world(job, validation))
    world = _world(job, asked)
    found = [
        _evaluated(
            contender.fit(world, chosen.choice, seed, chosen.epochs, lambda *_: None), world.split
        )
        for seed in (SEEDS if contender.trained else SEEDS[:1])
    ]
    record = {
        "setting": job.setting,
        "question": job.question,
        "contender": job.contender,
        "choice": dict(chosen.choice),
        "epochs": chosen.epochs if contender.trained else None,
        "validation_ndcg": chosen.ndcg,
        "ndcg": [one.per_user["ndcg"].tolist() for one in found],
        "recall": [one.per_user["recall"].tolist() for one in found],
        "seconds": round(time.perf_counter() - began, 1),
        "processor": processor(),
    }
    write_atomically(job.file(work), json.dumps(record).encode())


def choose(contender: Contender, question: str, world: World) -> Chosen:
    """Take the choice, and for networks the number of epochs, with the best validation NDCG."""
    found: list[Chosen] = []

    def look(epochs: int, model: Any) -> None:
        if epochs % EPOCHS_BETWEEN_LOOKS == 0:
            found.append(Chosen(choice, epochs, _evaluated(model, world.split)["ndcg"]))

    choices = contender.choices(question)
    if len(choices) == 1 and not contender.trained:
        return Chosen(choices[0], 0, float("nan"))
    for choice in choices:
        model = contender.fit(world, choice, SEEDS[0], MOST_EPOCHS, look)
        if not contender.trained:
            look(0, model)
    return max(found, key=lambda one: one.ndcg)


def run_all(jobs: Sequence[Job], work: Path, processes: int) -> None:
    """Run what is not there yet; an error of one ends the run."""
    waiting = [job for job in jobs if not job.file(work).exists()]
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for job, _ in zip(waiting, pool.map(run, waiting, [work] * len(waiting)), strict=True):
            print(f"{job.setting}, {job.question}: {job.contender}", flush=True)


def records(work: Path) -> list[Mapping[str, Any]]:
    """What has been written."""
    return [json.loads(file.read_bytes()) for file in sorted(work.glob("*.json"))]


def processor() -> str:
    """The name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "CPU"


def _world(job: Job, split_of: Any) -> World:
    made = shop(job.setting)
    split: Split = split_of(job.setting, job.question)
    return World(made, split, encode(made, split.train))


def _evaluated(model: Any, split: Split) -> Evaluation:
    # The order of purchases is random here, so nothing fades.
    arguments = {"recency": None} if isinstance(model, Recommender) else {}
    _, ranked = model.rank(split.users, K, candidates=split.candidates, **arguments)
    return evaluate(ranked, split, K)
