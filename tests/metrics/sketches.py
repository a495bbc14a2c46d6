"""Sketches of columns as the drift reference keeps them."""

import numpy as np

from components.metrics.shift import SKETCH_SIZE, order_statistics


def quantile_sketch(values: np.ndarray, size: int = SKETCH_SIZE) -> np.ndarray:
    """Of each column of values of shape (N,) or (N, F), what is not finite left out."""
    if values.ndim == 2:
        return np.stack([quantile_sketch(column, size) for column in values.T], axis=1)
    return order_statistics(np.sort(values[np.isfinite(values)]), size)
