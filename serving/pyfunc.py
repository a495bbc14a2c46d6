"""A registered model as MLflow's own tools load it (`mlflow.pyfunc.load_model`, `mlflow models serve`): the
module that its file MLmodel names. Rows are read and scored as by POST /score.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from components.contracts import PAST_RETURN_BARS
from components.contracts.classes import CLASS_COLUMNS
from components.scoring import Model
from serving.api.arrow_body import rows_of_table
from serving.api.json_body import moments_us, no_moment
from serving.api.refusal import Refusal
from serving.api.request_types import MOMENT
from serving.live.book_rows import BookRows
from serving.live.book_sizing import BookSizing
from serving.live.positions import batch_weights
from serving.live.state import shape_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_THREADS = 2
_NUMBERS = ("score", "p10", "p50", "p90", "uncertainty")


def _load_pyfunc(path: str) -> "Forecaster":
    """What MLflow calls with the folder in which MLmodel lies.

    Raises
    ------
    BundleError
        If a file of the bundle is missing, surplus or changed.
    """
    model = Model.load(Path(path), threads=_THREADS)
    return Forecaster(model, BookSizing.of(model.manifest, model.stacker.head.usual))


@dataclass(frozen=True)
class Forecaster:
    """A model, and the book that it was judged with."""

    model: Model
    book: BookSizing

    def predict(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """What POST /score answers with cross_section batch: the rows of a timestamp are that bar's whole
        universe. No row is too old here. A book that aims at a volatility has no positions: past returns are
        not given.

        Parameters
        ----------
        frame : `symbol`; `timestamp` (moments with a zone, or texts like 2024-05-31T20:00:00Z); a float
            column for each input and context column of the model, NaN for unknown; `window`
            (little-endian float32 bytes) where the model needs one

        Returns
        -------
        `symbol`, `score`, `p10`, `p50`, `p90`, `uncertainty`, where the target is a class `p_down`, `p_none`
        and `p_up`, and `position`, with the index of the frame.

        Raises
        ------
        MlflowException
            Naming the column or row that does not fit.
        """
        import pandas as pd
        from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

        try:
            rows = rows_of_table(_table(frame), "batch", shape_of(self.model), time.time_ns() // 1000)
        except Refusal as error:
            # Another exception would come to a client of `mlflow models serve` as a traceback.
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        inputs, context = np.split(rows.values, [len(self.model.columns)], axis=1)
        bar = np.unique(rows.timestamps_us, return_inverse=True)[1]
        outputs = self.model.expert_outputs(inputs, context, rows.window, bar)
        scores = self.model.combine(outputs, context, self.model.cross_section_by_bar(outputs, context, bar))
        told = scores.columns()
        classes = {name: told[name] for name in CLASS_COLUMNS if name in told}
        found = {"symbol": rows.symbols, **{name: getattr(scores, name) for name in _NUMBERS}, **classes}
        past = np.full((len(bar), PAST_RETURN_BARS), np.nan)
        own = BookRows.of(scores, context, self.model.context, past, self.book)
        found["position"] = batch_weights(own, bar, self.book)
        return pd.DataFrame(found, index=frame.index)


def _table(frame: "pd.DataFrame") -> "pa.Table":
    """The frame in Arrow, NaN as null; texts of moments are read as in a JSON body."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        raise Refusal(422, "wrong_type", f"A pandas frame is expected, not a {type(frame).__name__}.")
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise Refusal(
            422, "wrong_type", f"The frame has a column of mixed or unknown kind: {error}"
        ) from None
    if "timestamp" not in table.column_names or not pa.types.is_string(table["timestamp"].type):
        return table
    texts = table["timestamp"].to_pylist()
    times = pa.array(_moments(texts), pa.int64()).cast(pa.timestamp("us", "UTC"))
    return table.set_column(table.column_names.index("timestamp"), "timestamp", times)


def _moments(texts: Sequence[Any]) -> np.ndarray:
    for place, text in enumerate(texts):
        if text is None or not re.search(MOMENT, text):
            raise no_moment(f"rows[{place}].timestamp", str(text))
    return moments_us(texts)
