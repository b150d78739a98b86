"""One fit a process: a model, a training part, a seed; its figures in a file of their own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusionops.data import Encoded
from fusionops.evaluation import evaluate
from fusionops.files import write_atomically

from .models import CONTENDERS, Contender, asked_with
from .questions import GROUPS, data, questions

K = 20


@dataclass(frozen=True)
class Job:
    """What one process does."""

    group: str
    model: str
    seed: int

    def file(self, work: Path) -> Path:
        """Where its figures go."""
        name = self.model.replace(", ", "-").lower()
        return work / f"{self.group}.{name}.{self.seed}.json"


def all_jobs(groups: Sequence[str] = GROUPS) -> Iterator[Job]:
    """Every model on every training part that it is for, with every seed."""
    for name, contender in CONTENDERS.items():
        for group in groups:
            if contender.groups(group):
                yield from (Job(group, name, seed) for seed in contender.seeds)


def run(job: Job, features: dict[str, Encoded], work: Path) -> None:
    """Fit, rank, evaluate, write."""
    interactions, items = data()
    contender = CONTENDERS[job.model]
    asked = questions(interactions, job.group)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    model = contender.fit(asked[0].split.train, items, features, job.seed)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = [figure for question in asked for figure in _figures(model, contender, question)]
    record = {
        "group": job.group,
        "model": job.model,
        "seed": job.seed,
        "seconds": round(seconds, 2),
        "grown_mib": round((after - before) / 1024),
        "gpu_mib": round(torch.cuda.max_memory_allocated() / 1024**2),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "figures": figures,
    }
    write_atomically(job.file(work), json.dumps(record).encode())


def _figures(model: Any, contender: Contender, question: Any) -> Iterator[dict[str, Any]]:
    split = question.split
    for arguments in asked_with(contender, question.protocol):
        _, ranked = model.rank(split.users, K, candidates=split.candidates, **arguments)
        found = evaluate(ranked, split, K)
        yield {
            "protocol": question.protocol,
            "date": question.date,
            "recency": arguments.get("recency"),
            "recall": found.per_user["recall"].tolist(),
            "ndcg": found.per_user["ndcg"].tolist(),
            "coverage": found.coverage,
        }


def device_name() -> str:
    """The GPU that a Trainer would take, or the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "CPU"


def run_all(jobs: Sequence[Job], features: Path, work: Path, processes: int) -> list[Job]:
    """Run what is not there yet, and return what failed."""
    waiting = [job for job in jobs if not job.file(work).exists()]

    def one(job: Job) -> bool:
        command = [sys.executable, "-m", "benchmarks.accuracy", "one", job.group, job.model]
        command += [str(job.seed), "--features", str(features), "--work", str(work)]
        log = job.file(work).with_suffix(".log")
        with log.open("w") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
        print(f"{job.group} {job.model} {job.seed}: {'done' if code == 0 else log}", flush=True)
        return code == 0

    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(one, waiting))
    return [job for job, succeeded in zip(waiting, done, strict=True) if not succeeded]
