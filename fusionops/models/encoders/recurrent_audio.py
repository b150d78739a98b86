"""Sounds to vectors by an LSTM over mel bands, with the weights of a speaker encoder or none.

The network and its windows are those of Wan et al. (2018), "Generalized end-to-end loss for speaker
verification": a window of 1.6 seconds gives the direction of the last state, and a sound the mean
direction of its windows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fusionops.models.encoders import _hub
from fusionops.models.encoders._sound import MAX_SECONDS, Wave, checked_seconds, read_sound
from fusionops.models.encoders.adaptation import Adaptation, adapt
from fusionops.models.encoders.base import Encoder

Scale = Literal["power", "log"]

_FILE = "weights.safetensors"
_RATE = 16_000
_FRAME = 400  # samples: 25 ms
_HOP = 160  # samples: 10 ms
_WINDOW = 160  # frames
_STEP = round(_RATE / 1.3 / _HOP)  # frames between windows: 1.3 of them a second
_COVERAGE = 0.75  # of the last window there must be this much sound, unless it is the only one
_LOUDNESS = 10 ** (-30 / 20)  # quieter sounds are raised to this root mean square, -30 dB


class RecurrentAudioEncoder(Encoder):
    """An LSTM over mel bands.

    Parameters
    ----------
    bands : int
        Mel bands up to 8 kHz.
    hidden : int
        Features of a state.
    layers : int
        Of the LSTM.
    width : int
        Of the vectors, whose length is 1.
    scale : {"log", "power"}
        Of the bands. ``"power"`` is what Resemblyzer's weights were trained with, and fills a sound
        that is shorter than a window with silence, as it does. ``"log"`` repeats the sound, since a
        new network forgets what it hears before a silence.
    max_seconds : float
        Kept of a sound, from its beginning.
    adaptation : {"full", "frozen"}
        Whether the weights are trained.

    Raises
    ------
    ValueError
        A size below 1, another word, or ``"lora"``, which recurrent layers do not have.
    """

    modality = "audio"

    def __init__(
        self,
        *,
        bands: int = 40,
        hidden: int = 256,
        layers: int = 3,
        width: int = 256,
        scale: Scale = "log",
        max_seconds: float = MAX_SECONDS,
        adaptation: Adaptation = "full",
    ) -> None:
        super().__init__(width, adaptation)
        if adaptation == "lora":
            raise ValueError(
                "adaptation: expected 'frozen' or 'full' for a recurrent encoder, got 'lora'"
            )
        if scale not in get_args(Scale):
            raise ValueError(f"scale: expected 'log' or 'power', got {scale!r}")
        sizes = {"bands": bands, "hidden": hidden, "layers": layers, "width": width}
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"{name}: expected an integer of at least 1, got {size!r}")
        self.scale = scale
        self.max_seconds = checked_seconds(max_seconds)
        self.lstm = nn.LSTM(bands, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, width)
        self._filters = _mel_filters(bands)
        adapt(self, adaptation)
        self.train(self.training)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        scale: Scale = "power",
        max_seconds: float = MAX_SECONDS,
        adaptation: Adaptation = "frozen",
    ) -> RecurrentAudioEncoder:
        """Load weights from a file; the sizes are those of its tensors.

        Parameters
        ----------
        model : str or Path
            Resemblyzer's ``pretrained.pt`` (read without unpickling anything but tensors), or a
            ``.safetensors`` file of the ``state_dict`` of such an encoder.
        scale, max_seconds, adaptation
            As of the class.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It holds something else.
        """
        path = Path(model).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"model: expected a file of weights, got {str(model)!r}")
        with _hub.explained("recurrent weights", _hub.Source(str(path), True)):
            weights = _weights(path)
            layers = sum(name.startswith("lstm.weight_hh_l") for name in weights)
            sizes = {
                "bands": weights["lstm.weight_ih_l0"].shape[1],
                "hidden": weights["lstm.weight_hh_l0"].shape[1],
                "layers": layers,
                "width": weights["linear.weight"].shape[0],
            }
        encoder = cls(scale=scale, max_seconds=max_seconds, adaptation=adaptation, **sizes)
        with _hub.explained("recurrent weights", _hub.Source(str(path), True)):
            encoder.load_state_dict(weights)
        return encoder.eval()

    def prepare(self, content: Any) -> dict[str, Any]:
        """Windows of mel bands of a sound.

        Silence is not cut out, as Resemblyzer does with another library.

        Parameters
        ----------
        content : str, Path, tuple or numpy.ndarray
            A file of any format that libsndfile reads; samples ``[T]`` or ``[T, channels]`` at
            16 kHz; or samples and their rate.

        Returns
        -------
        dict of str to Tensor
            ``windows``: float32 ``[W, 160, bands]``.

        Raises
        ------
        Unreadable
            It is missing, damaged, no sound, or too short.
        """
        wave = read_sound(content, _RATE, self.max_seconds)
        loudness = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))
        if 0 < loudness < _LOUDNESS:
            wave = wave * np.float32(_LOUDNESS / loudness)
        return {"windows": self.windows(wave)}

    def windows(self, wave: Wave) -> Tensor:
        """Mel bands ``[W, 160, bands]`` of samples ``[T]`` as they are, at 16 kHz."""
        if self.scale == "log" and len(wave) < _WINDOW * _HOP:
            wave = np.resize(wave, _WINDOW * _HOP)  # which repeats it
        frames = math.ceil((len(wave) + 1) / _HOP)
        starts = range(0, max(1, frames - _WINDOW + _STEP + 1), _STEP)
        sound_in_last = (len(wave) - starts[-1] * _HOP) / (_WINDOW * _HOP)
        if len(starts) > 1 and sound_in_last < _COVERAGE:
            starts = starts[:-1]
        end = (starts[-1] + _WINDOW) * _HOP
        padded = functional.pad(torch.from_numpy(wave), (0, max(0, end - len(wave))))
        spectrum = torch.stft(
            padded,
            _FRAME,
            _HOP,
            window=torch.hann_window(_FRAME),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        mel = spectrum.abs().square().mT @ self._filters
        if self.scale == "log":
            mel = (mel.clamp_min(1e-6).log() + 7) / 3.5  # most of it within [-2, 2]
        return torch.stack([mel[start : start + _WINDOW] for start in starts])

    def length(self, prepared: Mapping[str, Any]) -> int:
        """The number of windows."""
        return len(prepared["windows"])

    def collate(self, prepared: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Windows ``[B, W, 160, bands]``, padded on the right, and how many ``[B]`` are real."""
        windows = [one["windows"] for one in prepared]
        return {
            "windows": nn.utils.rnn.pad_sequence(windows, batch_first=True),
            "counts": torch.tensor([len(one) for one in windows]),
        }

    def encode(self, **batch: Tensor) -> Tensor:
        """The vectors ``[B, width]``, of length 1."""
        windows, counts = batch["windows"].to(self.dtype), batch["counts"]
        real = torch.arange(windows.shape[1], device=windows.device) < counts[:, None]
        _, (hidden, _) = self.lstm(windows[real])
        directions = functional.normalize(functional.relu(self.linear(hidden[-1])), dim=1)
        whose = real.nonzero()[:, 0]
        total = directions.new_zeros(len(counts), self.width).index_add(0, whose, directions)
        return functional.normalize(total, dim=1)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write a file of weights; how bands are scaled is an option."""
        save_file(self.state_dict(), folder / _FILE)
        return {"model": _FILE, "scale": self.scale, "max_seconds": self.max_seconds}

    def settings(self) -> dict[str, Any]:
        """The scale of the bands, and what is kept of a sound."""
        return {"scale": self.scale, "max_seconds": self.max_seconds}


def _mel_filters(bands: int) -> Tensor:
    """``[frequencies, bands]``, of Slaney's scale and of equal area."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=_FRAME // 2 + 1,
        num_mel_filters=bands,
        min_frequency=0.0,
        max_frequency=_RATE / 2,
        sampling_rate=_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).to(torch.float32)


def _weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(path)
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    # Resemblyzer's file also has the scale of its training loss.
    return {name: value for name, value in weights.items() if name.startswith(("lstm.", "linear."))}
