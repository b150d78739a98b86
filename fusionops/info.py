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
# Native operators that serve a public one of another name, and what CUDA C++ kernels hold at most.
_NATIVE = {"fusion_recommend": "fusion_contract"}
_CUDA_SIZES = {
    "fusion_topk": "k up to 1,024",
    "attention_fusion": "up to 32 queries and 32 tokens",
}
_COMPOSITION = "chunked composition of PyTorch operators"
_VARIABLES = (
    "FUSIONOPS_ISA", "FUSIONOPS_NUM_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def report() -> dict[str, Any]:
    """The environment as a JSON-able dictionary."""
    import torch

    import fusionops
    from fusionops import _native, cuda_library

    build = _native.build_info()
    return {
        "fusionops": fusionops.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "native": dict(build),
        "cuda": {
            "torch": torch.version.cuda or "built without CUDA",
            "library": list(cuda_library.architectures()) or cuda_library.NOT_BUILT,
            "devices": _devices(),
        },
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "serving": {
            **{
                name: {
                    "cpu": f"C++ kernels ({build['isa']})",
                    "cuda": _on_cuda(name),
                    "other devices": _COMPOSITION,
                }
                for name in _OPERATORS
            },
            "Catalog": {"NumPy arrays": f"C++ kernels ({build['isa']})"},
        },
    }


def _devices() -> dict[str, str]:
    """The GPUs, each with who has code for it."""
    import torch

    from fusionops import cuda_library, triton

    found = {}
    for index in range(torch.cuda.device_count()):
        capability = cuda_library.capability(index)
        servers = {
            "the CUDA library": cuda_library.covers(index),
            "Triton": triton.covers(index),
        }
        covering = [name for name, covers in servers.items() if covers]
        found[f"cuda:{index}"] = (
            f"{torch.cuda.get_device_name(index)}, compute capability "
            f"{'.'.join(map(str, capability))}, served by {', '.join([*covering, 'PyTorch'])}"
        )
    return found


def _on_cuda(operator: str) -> str:
    """Who serves a GPU that the CUDA library covers; float64 is always left to PyTorch."""
    from fusionops import cuda_library, triton

    native = _NATIVE.get(operator, operator)
    servers = []
    if cuda_library.PATH.exists() and native in cuda_library.OPERATORS:
        sizes = _CUDA_SIZES.get(operator)
        servers.append("CUDA C++ kernels" + (f" ({sizes})" if sizes else ""))
    if triton.AVAILABLE and native in triton.HOMES:
        servers.append("Triton kernels")
    return ", else ".join([*servers, _COMPOSITION])


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
