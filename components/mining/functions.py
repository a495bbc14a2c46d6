"""The functions of a formula on arrays, NaN for null: the same as those of the features stage on columns."""

import numpy as np

# Below this a denominator or the argument of a logarithm counts as zero: the result is NaN.
SMALLEST = 1e-14


def _divide(left, right):
    return left / np.where(np.abs(right) >= SMALLEST, right, np.nan)


def _logarithm(value):
    size = np.abs(value)
    return np.log(np.where(size >= SMALLEST, size, np.nan))


FUNCTIONS = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "mul": (2, np.multiply),
    "div": (2, _divide),
    "max": (2, np.maximum),
    "min": (2, np.minimum),
    "neg": (1, np.negative),
    "abs": (1, np.abs),
    "sqrt": (1, lambda value: np.sqrt(np.abs(value))),
    "log": (1, _logarithm),
    "inv": (1, lambda value: _divide(1.0, value)),
}
