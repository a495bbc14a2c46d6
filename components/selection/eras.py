"""The evidence of one pair of neighbouring eras: what each method says of each input when it learns from the
first and is judged on the second.

Eras lie on one grid for all folds, so a pair is looked at once and then counts in every fold whose training
bars hold both eras. A vote is always against chance of the same kind (`chance`; permutation importance
against such nulls: Altmann et al. 2010). An input that beats its own value under all `flips` redrawn labels
gets the vote: under pure chance 1 in flips + 1 do. Permutation, elimination and the genetic search are held
to the same share.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.selection.chance import beats, flipped_ic, mutual_information, redrawn_signs
from components.selection.fitted import Findings, Trial, ask_fitted_methods
from components.selection.grid import Pair, block_of
from components.selection.samples import draw_rows, usable_inputs
from components.selection.walk import Walk

METHODS = (
    "rolling_ic",
    "mutual_information",
    "importance",
    "shap",
    "linear_path",
    "permutation",
    "boruta",
    "elimination",
    "genetic",
)


@dataclass(frozen=True)
class Evidence:
    """What a pair of eras says; arrays over all F inputs. NaN where an input was not looked at.

    `votes` and `figures` are by method and by name; `stands_for` is the position of the input that stood for
    the input's cluster; `correlation` (F, F). `chance`: share of useless inputs that get a vote.
    """

    pair: Pair
    usable: np.ndarray
    stands_for: np.ndarray
    correlation: np.ndarray
    votes: dict[str, np.ndarray]
    figures: dict[str, np.ndarray]
    chance: float


def evidence_of(walk: Walk, daily_ic: np.ndarray, pair: Pair, *, advance: Callable[[str], None]) -> Evidence:
    """All methods of the mode on one pair of eras.

    Parameters
    ----------
    daily_ic : RankIC of each bar and input, shape (T, F)
    advance : is told which method is at work
    """
    rows, purpose, settings = walk.rows, walk.purpose, walk.settings
    rng = np.random.default_rng([purpose.seed, pair.first])
    learned = draw_rows(rows, pair.first, pair.middle, settings.most_rows, 1, rng)
    # With the gap no label of the first era reaches into the second.
    held = draw_rows(
        rows, pair.middle + walk.gap_bars, pair.end, settings.most_rows // 2, purpose.horizon, rng
    )
    usable, correlation, stands_for = usable_inputs(learned, settings)
    columns = np.unique(stands_for[usable])
    block = block_of(settings, purpose.horizon, pair.middle - pair.first)
    signs = redrawn_signs(-(-(pair.middle - pair.first) // block), settings.effort.flips, rng)
    block_of_row = (learned.bars - pair.first) // block
    ic, ic_nulls = flipped_ic(daily_ic[pair.first : pair.middle], block, signs)
    information, information_nulls = mutual_information(learned, block_of_row, signs, usable)
    own = Findings(
        {
            "rolling_ic": beats(np.abs(ic), np.abs(ic_nulls)),
            "mutual_information": beats(information, information_nulls),
        },
        {"era_ic": ic, "mutual_information": information},
    )
    fitted = Findings()
    if len(columns):
        flipped = [learned.target * sign[block_of_row] for sign in signs]
        trial = Trial(learned.of_inputs(columns), held.of_inputs(columns), flipped, settings, purpose)
        fitted = ask_fitted_methods(trial, rng, advance)
    votes = _of_all_inputs(own.votes, fitted.votes, columns, usable, stands_for)
    return Evidence(
        pair,
        usable,
        stands_for,
        correlation.astype(np.float32),
        {name: votes[name] for name in METHODS if name in votes and np.isfinite(votes[name]).any()},
        _of_all_inputs(own.figures, fitted.figures, columns, usable, stands_for),
        1 / (len(signs) + 1),
    )


def _of_all_inputs(
    own: dict[str, np.ndarray],
    fitted: dict[str, np.ndarray],
    columns: np.ndarray,
    usable: np.ndarray,
    stands_for: np.ndarray,
) -> dict[str, np.ndarray]:
    """All by name, (F,), NaN where an input is not usable: what each input got itself, and what the one at
    `columns` that stands for its cluster got from a fitted method.
    """
    found = {name: np.where(usable, values, np.nan) for name, values in own.items()}
    for name, values in fitted.items():
        spread = np.full(len(usable), np.nan)
        spread[columns] = values
        found[name] = np.where(usable, spread[stands_for], np.nan)
    return found
