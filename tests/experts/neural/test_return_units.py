"""A head of a further task is brought into its unit by its own scores, bands and labels."""

from datetime import datetime, timedelta
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from components.experts.errors import ExpertError
from components.experts.neural.predict import Predicted
from components.experts.neural.return_units import fit_further_heads

BARS, SYMBOLS, ALSO = 200, 10, [("log_return", 4)]


@pytest.fixture(scope="module")
def watched():
    """Rows whose label over 4 bars is 3 times what the second head says and a little noise; the first head
    says something else.
    """
    rng = np.random.default_rng(5)
    rows = BARS * SYMBOLS
    scores = rng.normal(0, 0.01, size=(rows, 2))
    label = 3 * scores[:, 1] + rng.normal(0, 0.01, rows)
    moments = [datetime(2024, 1, 1) + timedelta(days=bar) for bar in range(BARS) for _ in range(SYMBOLS)]
    judged = pl.DataFrame({"timestamp": moments, "symbol": [f"S{n}" for n in range(SYMBOLS)] * BARS})
    judged = judged.with_columns(label=pl.lit(9.0), volatility_20=pl.lit(0.01))
    quantiles = np.stack([np.zeros((rows, 2)) + shift for shift in (-1.0, 0.0, 1.0)], axis=-1)
    quantiles[:, 0] *= 50
    bars = SimpleNamespace(
        labels_NT=np.stack([np.full(rows, np.nan), label], axis=1), volatility_N=np.full(rows, 0.01)
    )
    found = Predicted(scores, quantiles, np.empty((rows, 0)), {}, np.empty(0))
    return judged, bars, found, label


def test_scale_and_width_are_those_of_the_tasks_own_head(watched):
    judged, bars, found, label = watched
    (head,) = fit_further_heads(judged, bars, np.arange(len(judged)), found, ALSO)
    assert head.scale == pytest.approx(3, rel=0.05)
    assert head.bias == pytest.approx(0, abs=1e-3)
    # Eight of ten labels inside of bands at -1 and 1 times the volatility of 4 bars, widened.
    assert head.width == pytest.approx(np.quantile(np.abs(label) / 0.02, 0.8))


def test_rows_without_its_label_take_no_part_and_none_at_all_is_refused(watched):
    judged, bars, found, _ = watched
    fewer = SimpleNamespace(labels_NT=bars.labels_NT.copy(), volatility_N=bars.volatility_N)
    fewer.labels_NT[::2, 1] = np.nan
    half = np.arange(1, len(judged), 2)
    own = Predicted(
        found.score_NT[half], found.quantiles_NT3[half], found.direction_NC[half], {}, np.empty(0)
    )
    assert fit_further_heads(judged, fewer, np.arange(len(judged)), found, ALSO) == fit_further_heads(
        judged[1::2], bars, half, own, ALSO
    )
    fewer.labels_NT[:, 1] = np.nan
    with pytest.raises(ExpertError, match="no early-stopping row has a label of log_return over 4 bars"):
        fit_further_heads(judged, fewer, np.arange(len(judged)), found, ALSO)
