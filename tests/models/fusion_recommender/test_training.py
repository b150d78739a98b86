"""What is learned, from which inputs, and that a run goes on as if it had not been killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recommender_support import N_COLD, N_ITEMS, N_TASTES, N_USERS, QUICK, encoded, fitted, shop
from transformers import TrainingArguments

from fusionops.data import IdMap, Interactions, Users
from fusionops.models import LinearFusion
from fusionops.models.fusion_recommender import FusionRecommender

LONGER = {"num_train_epochs": 20, "learning_rate": 1e-2, "warmup_steps": 2}
WARM = N_ITEMS - N_COLD
TESTS = Path(__file__).parents[2]


def share_of_taste(model: FusionRecommender, k: int = 4, **limits) -> float:
    users = np.arange(N_USERS)
    _, items = model.rank(users, k, **limits)
    return float((items % N_TASTES == users[:, None] % N_TASTES).mean())


def popular_share(interactions: Interactions, k: int = 4) -> float:
    best = np.argsort(-np.bincount(interactions.item, minlength=N_ITEMS), kind="stable")[:k]
    return float(np.mean([best % N_TASTES == user % N_TASTES for user in range(N_USERS)]))


KINDS = {
    "collaborative": ({}, False),
    "content": ({"item_ids": False}, True),
    "hybrid": ({}, True),
    "weighted": ({"fusion": "weighted"}, True),
    "deep": ({"fusion": "deep"}, True),
    "gru": ({"behaviour": "gru"}, True),
    "cosine": ({"normalization": "cosine", "loss": "contrastive"}, True),
    "reranked": ({"rerank_candidates": 12}, True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_taste_is_learned_and_beats_popularity(kind):
    interactions = shop()
    choices, content = KINDS[kind]
    inputs = {"features": {"text": encoded(interactions.items)}} if content else {}
    model = fitted(interactions, arguments=LONGER, inputs=inputs, **choices)
    losses = [entry["loss"] for entry in model.log if "loss" in entry]
    assert len(losses) == 20
    assert losses[-1] < losses[0] - 0.1
    assert share_of_taste(model) > popular_share(interactions) + 0.25
    cold = np.arange(WARM, N_ITEMS)
    of_cold = share_of_taste(model, 1, candidates=cold)
    assert of_cold > 0.5 if content else of_cold == pytest.approx(1 / N_TASTES)


def test_one_seed_is_one_model():
    interactions = shop()
    runs = [fitted(interactions, arguments={"seed": seed}) for seed in (3, 3, 4)]
    assert runs[0].log[0]["loss"] == runs[1].log[0]["loss"] != runs[2].log[0]["loss"]
    assert np.array_equal(runs[0].item_vectors, runs[1].item_vectors)


def test_rows_of_weight_0_are_no_examples():
    """Item 35 was only met, by users who have others: nothing is asked for it or given by it."""
    plain = shop(cold=1)
    met = Interactions(
        np.append(plain.user, [0, 1]),
        np.append(plain.item, [N_ITEMS - 1, N_ITEMS - 1]),
        plain.users,
        plain.items,
        np.append(plain.time, plain.time[-1:].repeat(2)),
        weight=np.append(plain.weight, np.zeros(2, np.float32)),
    )
    one, other = fitted(plain), fitted(met)
    assert one.log[0]["loss"] == other.log[0]["loss"]
    assert np.array_equal(one.item_vectors, other.item_vectors)
    assert N_ITEMS - 1 not in other.rank(np.array([0, 1]), N_ITEMS)[1]


def test_users_without_columns_are_no_table():
    interactions = shop()
    users = Users(interactions.users, text={"note": ["x"] * N_USERS})
    assert fitted(interactions, inputs={"users": users}).config.user_columns is None


class TestStart:
    @pytest.mark.parametrize("at", [None, "2024-02-20"])
    def test_it_ranks_as_the_linear_model_does(self, at):
        interactions = shop()
        linear = LinearFusion(rank=8).fit(interactions)
        model = fitted(
            interactions,
            inputs={"start": linear, "features": {"text": encoded(interactions.items)}},
            arguments={"learning_rate": 0.0, "weight_decay": 0.0},
        )
        users = np.arange(N_USERS)
        ours, theirs = (m.rank(users, N_ITEMS, at=at) for m in (model, linear))
        known = np.isfinite(ours[0])
        assert np.array_equal(known, np.isfinite(theirs[0]))
        # Equal scores may swap in the last bits.
        for row in users:
            score = dict(zip(theirs[1][row].tolist(), theirs[0][row].tolist(), strict=True))
            in_our_order = [score[item] for item in ours[1][row][known[row]].tolist()]
            np.testing.assert_allclose(in_our_order, theirs[0][row][known[row]], atol=1e-5)

    def test_training_goes_on_from_there(self):
        interactions = shop()
        linear = LinearFusion(rank=8).fit(interactions)
        model = fitted(interactions, inputs={"start": linear}, arguments=LONGER)
        losses = [entry["loss"] for entry in model.log if "loss" in entry]
        assert losses[-1] < losses[0]


RUN = """
import sys, os, signal, json
sys.path.insert(0, {tests!r})
from recommender_support import encoded, fitted, shop
from transformers import TrainerCallback
class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == {kill}:
            os.kill(os.getpid(), signal.SIGKILL)
interactions = shop()
fitted(interactions, dropout=0.2, fusion="deep", rerank_candidates=6,
       inputs={{"features": {{"text": encoded(interactions.items)}}, "callbacks": [Kill()]}},
       arguments={{"num_train_epochs": 4, "output_dir": {folder!r}, "save_strategy": "steps",
                  "save_steps": 2, "logging_strategy": "steps", "logging_steps": 1}})
"""


def losses_by_step(model: FusionRecommender) -> dict[int, float]:
    return {entry["step"]: entry["loss"] for entry in model.log if "loss" in entry}


class TestResume:
    """Epochs of three steps, a checkpoint every two: killed in step 5, resumed within an epoch."""

    ARGUMENTS = dict(  # noqa: RUF012, C408
        num_train_epochs=4,
        save_strategy="steps",
        save_steps=2,
        logging_strategy="steps",
        logging_steps=1,
    )

    def run(self, folder: Path, **more) -> FusionRecommender:
        interactions = shop()
        return fitted(
            interactions,
            dropout=0.2,
            fusion="deep",
            rerank_candidates=6,
            inputs={"features": {"text": encoded(interactions.items)}, **more},
            arguments={**self.ARGUMENTS, "output_dir": str(folder)},
        )

    @pytest.fixture
    def killed(self, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("killed")
        script = RUN.format(tests=str(TESTS), kill=5, folder=str(folder))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert {path.name for path in folder.glob("checkpoint-*")} == {
            "checkpoint-2",
            "checkpoint-4",
        }
        return folder

    def test_a_killed_run_goes_on_to_the_same_losses_and_weights(self, killed, tmp_path):
        whole = self.run(tmp_path)
        # A save that died: what is there of it is not gone on from, and is written over.
        dying = killed / "checkpoint-6"
        dying.mkdir()
        (dying / "config.json").write_text((killed / "checkpoint-4" / "config.json").read_text())
        resumed = self.run(killed, resume=True)
        assert losses_by_step(resumed) == losses_by_step(whole)
        assert len(losses_by_step(whole)) == 12
        for (name, one), other in zip(
            whole.state_dict().items(), resumed.state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), name
        again = self.run(killed, resume=killed / "checkpoint-2")
        assert losses_by_step(again) == losses_by_step(whole)
        model = FusionRecommender.from_pretrained(killed / "checkpoint-4")
        assert model.recommend(["u00"], 3).num_rows == 3


class TestTrainerOptions:
    def test_accumulated_gradients_are_those_of_the_whole_batch(self):
        """Every user asks for one item, so that means of means are means."""
        interactions = shop()
        choices = {"max_targets": 1, "modality_dropout": 0.0, "id_dropout": 0.0}
        vectors = [
            fitted(
                interactions,
                arguments={
                    "per_device_train_batch_size": size,
                    "gradient_accumulation_steps": N_USERS // size,
                    "num_train_epochs": 3,
                },
                **choices,
            ).item_vectors
            for size in (N_USERS, N_USERS // 4)
        ]
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-4)

    def test_bfloat16_autocast(self):
        model = fitted(shop(), fusion="deep", arguments={**LONGER, "bf16": True, "use_cpu": True})
        assert share_of_taste(model) > popular_share(shop()) + 0.1
        assert all(p.dtype == torch.float32 for p in model.parameters())

    def test_tensorboard_gets_the_losses(self, tmp_path, monkeypatch):
        pytest.importorskip("tensorboard")
        monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
        fitted(shop(), arguments={"report_to": "tensorboard", "output_dir": str(tmp_path)})
        assert list(tmp_path.rglob("events.out.tfevents.*"))

    def test_arguments_as_an_object_and_no_litter(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"), report_to=[], save_strategy="no", **QUICK
        )
        assert len(FusionRecommender(dim=8, num_heads=2).fit(shop(), arguments=arguments).log)
        fitted(shop(), arguments={"output_dir": str(tmp_path / "out")})

    @pytest.mark.slow
    def test_two_processes_train_one_model(self, tmp_path):
        script = tmp_path / "train.py"
        script.write_text(
            f"import sys, os, json\nsys.path.insert(0, {str(TESTS)!r})\n"
            "from recommender_support import encoded, fitted, shop\n"
            "interactions = shop()\n"
            "model = fitted(interactions, inputs={'features': {'text': "
            "encoded(interactions.items)}}, fusion='deep', arguments={'num_train_epochs': 8, "
            f"'learning_rate': 1e-2, 'use_cpu': True, 'output_dir': {str(tmp_path)!r}}})\n"
            "losses = [e['loss'] for e in model.log if 'loss' in e]\n"
            "found = {'sum': float(abs(model.item_vectors).sum()), 'losses': losses}\n"
            f"open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').write(json.dumps(found))\n"
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
        done = subprocess.run(
            [*command, "--standalone", str(script)],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            timeout=300,  # a deadlock is a failure
        )
        assert done.returncode == 0, done.stderr
        ranks = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
        assert ranks[0]["sum"] == ranks[1]["sum"]
        assert ranks[0]["losses"][-1] < ranks[0]["losses"][0]


def test_a_refit_that_fails_leaves_no_half_of_two_models():
    interactions = shop()
    model = fitted(interactions)
    other = LinearFusion(rank=8).fit(shop(cold=8).restrict())
    with pytest.raises(ValueError, match="start: expected a LinearFusion of the 36 items"):
        model.fit(interactions, start=other, arguments=QUICK)
    with pytest.raises(RuntimeError, match="not fitted"):
        model.recommend(["u00"], 3)


def test_few_users_and_items_are_enough():
    ids = IdMap(["a", "b"])
    two = Interactions(np.array([0, 0]), np.array([0, 1]), IdMap(["u"]), ids)
    model = fitted(two)
    assert model.recommend(["u"], 3, exclude_seen=False).num_rows == 2
