"""Which checkpoint a run goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fusionops.models.fusion_recommender.config import FusionRecommenderConfig
from fusionops.models.fusion_recommender.persistence import load_shelf

_STATE = "trainer_state.json"  # what the Trainer writes last


def checkpoint_of(
    resume: bool | str | Path, output_dir: str | None, config: FusionRecommenderConfig
) -> str | None:
    """The folder of the checkpoint that ``resume`` means, None for none.

    Parameters
    ----------
    resume : bool or path
        True: the last one in ``output_dir`` that was written to its end.
    output_dir : str or None
    config : FusionRecommenderConfig
        Of the model that goes on.

    Raises
    ------
    TypeError, ValueError
        There is no such checkpoint, it is damaged, or of a model of another config.
    """
    if isinstance(resume, bool):
        if not resume:
            return None
        folder = _last(Path(output_dir or "."))
    elif isinstance(resume, (str, Path)):
        folder = Path(resume)
        if not _is_whole(folder):
            raise ValueError(
                f"resume: expected the folder of a checkpoint with a {_STATE}, got {folder}"
            )
    else:
        raise TypeError(f"resume: expected a bool or a path, got {type(resume).__name__}")
    load_shelf(folder)
    _check_config(FusionRecommenderConfig.from_pretrained(folder), config)
    return str(folder)


def _last(output_dir: Path) -> Path:
    # The Trainer's own choice is the last folder, which a run that was killed may have left half
    # written.
    steps = [
        int(folder.name.partition("-")[2])
        for folder in output_dir.glob("checkpoint-*")
        if folder.name.partition("-")[2].isdigit() and _is_whole(folder)
    ]
    if not steps:
        raise ValueError(
            f"resume: expected a checkpoint in the output_dir of arguments, {output_dir}, got none"
        )
    return output_dir / f"checkpoint-{max(steps)}"


def _is_whole(folder: Path) -> bool:
    try:
        return isinstance(json.loads((folder / _STATE).read_bytes()), dict)
    except (OSError, ValueError):
        return False


def _check_config(found: FusionRecommenderConfig, expected: FusionRecommenderConfig) -> None:
    ours, theirs = _own(expected), _own(found)
    for name, value in ours.items():
        if theirs[name] != value:
            raise ValueError(
                f"resume: expected a checkpoint of a model with {name} = {value!r}, "
                f"got {theirs[name]!r}"
            )


def _own(config: FusionRecommenderConfig) -> dict[str, Any]:
    """What this package has put into a config, as JSON has it."""
    parameters = FusionRecommenderConfig.parameters()
    return {name: json.loads(json.dumps(getattr(config, name))) for name in parameters}
