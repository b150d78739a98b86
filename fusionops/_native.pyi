from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_Lists = tuple[_Array, _Array]

class BuildInfo(TypedDict):
    compiler: str
    isas_built: list[str]
    isas_runnable: list[str]
    isa: str
    threads: int

def build_info() -> BuildInfo: ...
def inverse_norm(x: _Array, eps: float = 0.0) -> _Array: ...
def fusion_matrix(
    user: _Array,
    item: _Array,
    user_scale: _Array | None = None,
    item_scale: _Array | None = None,
) -> _Array: ...
def fusion_contract(left: _Array, right: _Array, scale: _Array | None = None) -> _Array: ...
def fusion_topk(
    user: _Array,
    item: _Array,
    k: int,
    user_scale: _Array | None = None,
    item_scale: _Array | None = None,
    item_bias: _Array | None = None,
    exclude: _Lists | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    candidates: _Lists | None = None,
) -> tuple[_Array, npt.NDArray[np.int64]]: ...
def pack_items(
    vectors: _Array,
    dtype: str,
    panels: _Array,
    stats: _Array | None = None,
    item_scale: _Array | None = None,
) -> None: ...
def packed_topk(
    user: _Array,
    k: int,
    panels: _Array,
    count: int,
    user_scale: _Array | None = None,
    item_scale: _Array | None = None,
    exclude: _Lists | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]: ...
def packed_candidates(
    user: _Array,
    k: int,
    dtype: str,
    panels: _Array,
    stats: _Array,
    count: int,
    user_scale: _Array | None = None,
    exclude: _Lists | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]: ...
def operation_rate(dtype: str, depth: int = 0, seconds: float = 0.2) -> float: ...
def memory_rate(traffic: str, buffer: _Array, seconds: float = 0.2) -> float: ...
