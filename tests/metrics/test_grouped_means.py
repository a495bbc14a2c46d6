"""Many series at once say what each says by itself."""

import numpy as np
import pytest

from components.metrics import fewest_values, half_width, standard_error, t_value
from components.metrics.grouped import mean_tests


@pytest.mark.parametrize("horizon", [1, 5])
def test_each_series_is_what_it_is_alone(horizon):
    random = np.random.default_rng(horizon)
    fewest = fewest_values(horizon)
    lengths = [200, 1, fewest - 1, fewest, 200, 90, 33]
    series = [random.normal(0.1, 1, length) for length in lengths]
    series[4] = np.full(200, 0.3)  # a constant has no error
    found = mean_tests(np.concatenate(series), np.array(lengths), horizon=horizon, level=0.9)
    assert found.mean == pytest.approx([values.mean() for values in series])
    for name, alone in (
        ("t", lambda values: t_value(values, horizon=horizon)),
        ("error", lambda values: standard_error(values, horizon=horizon)),
        ("reach", lambda values: half_width(values, horizon=horizon, level=0.9)),
    ):
        assert getattr(found, name) == pytest.approx([alone(values) for values in series], nan_ok=True), name
    assert np.isnan(found.t[1:3]).all()
    assert np.isfinite(found.t[[0, 3]]).all()


def test_no_series_at_all():
    assert len(mean_tests(np.empty(0), np.empty(0, int), horizon=1, level=0.9).t) == 0
