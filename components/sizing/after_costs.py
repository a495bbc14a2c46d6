"""Kelly's share of a bet whose every ending is less its costs, and how far prices go when they go far enough
to pay them.
"""

import numpy as np


def move_that_pays(deviation: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """The mean of a Gaussian return (mean 0, this deviation) where it is above a threshold: what a class that
    begins there is worth. NaN where the deviation is not above 0.
    """
    # Imported here: settings and documents, which every command reads, come by this folder.
    from scipy.special import log_ndtr

    told = np.where(deviation > 0, deviation, np.nan)
    far = threshold / told
    return told * np.exp(-(far**2) / 2 - np.log(2 * np.pi) / 2 - log_ndtr(-far))


def kelly_share_after_costs(
    wins: np.ndarray, nothing: np.ndarray, loses: np.ndarray, move: np.ndarray, cost: np.ndarray
) -> np.ndarray:
    """The share f of the capital whose expected log growth is largest, for a bet that returns move - cost
    with chance `wins`, -cost with chance `nothing` and -move - cost with chance `loses` (Kelly 1956); 0 where
    that is not worth its costs. At most 1 / (move + cost), with which all could be lost. Costs are 0 or more.

    The growth's slope is 0 at the smaller root of a b k f^2 + B f + e, with a = move - cost, k = cost,
    b = move + cost, e what is expected, and B as below; without costs that is `kelly_share_of_classes`.
    """
    gain, loss = move - cost, move + cost
    expected = wins * gain - nothing * cost - loses * loss
    square = (wins + nothing + loses) * gain * cost * loss
    slope = wins * gain * (cost + loss) + nothing * cost * (gain - loss) + loses * loss * (gain - cost)
    root = slope + np.sqrt(np.maximum(slope**2 - 4 * square * expected, 0.0))
    share = np.divide(2 * expected, root, out=np.zeros_like(expected), where=(expected > 0) & (root > 0))
    return np.minimum(share, np.divide(1.0, loss, out=np.zeros_like(loss), where=loss > 0))
