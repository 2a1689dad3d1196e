"""Arrow arrays: columns of Arrow's tables as arrays of NumPy, without pandas.

pyarrow's own `to_numpy` imports pandas, and so does a comparison of a column with a number or a text of Python (pyarrow 25). A
copy of this process that only reads trials would wait for that longer than for the trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def array_in(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """The numbers [n] of a column, as `to_numpy` gives them: an empty cell is NaN, and makes floats of whole numbers.

    What is no number goes through `to_numpy`. Numbers may lie in the column's own memory, which nobody may write into.
    """
    import numpy as np
    import pyarrow as pa

    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        whole: NDArray[Any] = pa.chunked_array(
            [column] if isinstance(column, pa.Array) else column.chunks, column.type
        ).to_numpy()
        return whole
    one = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not one.null_count:
        return np.from_dlpack(one)
    known = np.from_dlpack(one.is_valid().cast("uint8")).astype(bool)
    values = pa.Array.from_buffers(one.type, len(one), [None, one.buffers()[1]], offset=one.offset)
    return np.where(known, np.from_dlpack(values), np.nan)


def floats_in(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float64]:
    """The numbers [n] of a column in memory of their own; an empty cell is NaN."""
    values: NDArray[np.float64] = array_in(column).astype(float)
    return values
