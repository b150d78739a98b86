"""What this installation is and who serves a call: ``python -m fusionops.info``.

The report is made to be pasted into a bug report.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

_LIBRARIES = (
    "numpy", "triton", "pyarrow", "scikit-learn", "scipy", "typer", "rich", "matplotlib",
    "safetensors", "transformers", "faiss-cpu", "usearch", "cut-cross-entropy",
)  # fmt: skip
_OPERATORS = (
    "fusion_matrix", "fusion_recommend", "fusion_topk", "fusion_cross_entropy",
    "fusion_contrastive", "weighted_fusion", "attention_fusion", "bidirectional_fusion",
    "history_fusion", "mmr_rerank",
)  # fmt: skip
_VARIABLES = ("FUSIONOPS_ISA", "FUSIONOPS_NUM_THREADS", "OMP_NUM_THREADS")


def report() -> dict[str, Any]:
    """The environment as a JSON-able dictionary."""
    import torch

    import fusionops
    from fusionops import _native

    build = _native.build_info()
    return {
        "fusionops": fusionops.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cuda_devices": torch.cuda.device_count(),
        "native": dict(build),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "serving": {
            **{
                name: {
                    "cpu": f"C++ kernels ({build['isa']})",
                    "other devices": "chunked composition of PyTorch operators",
                }
                for name in _OPERATORS
            },
            "Catalog": {"NumPy arrays": f"C++ kernels ({build['isa']})"},
        },
    }


def render(values: dict[str, Any], indent: str = "") -> str:
    """A report as indented lines of ``name: value``."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines.append(f"{indent}{name}:")
            lines.append(render(value, indent + "  ") if value else f"{indent}  -")
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(map(str, value))}")
        else:
            lines.append(f"{indent}{name}: {value if value is not None else 'not installed'}")
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            pairs = (line.split(":", 1) for line in lines if ":" in line)
            known = {name.strip(): value.strip() for name, value in pairs}
    except OSError:
        known = {}  # not Linux: the platform module knows something
    if "model name" not in known:
        return platform.processor() or platform.machine()
    # Virtual machines cut the name down to the brand; the numbers still tell the generation.
    return f"{known['model name']} (family {known['cpu family']}, model {known['model']})"


if __name__ == "__main__":
    print(render(report()))
    sys.exit(0)
