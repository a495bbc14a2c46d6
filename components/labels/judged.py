"""Whether labels are believed: they are refused where a few, far beyond what is usual, outweigh the rest."""

import polars as pl

from components.contracts import AlphaloopError
from components.labels.config import Settings
from components.metrics.far_labels import far_sizes
from components.progress import report, warn

# Far labels at fewer moments are as well the news of a few days.
FEWEST_MOMENTS = 5


class LabelsRefused(AlphaloopError):
    """A few labels, far beyond what is usual for their symbols, hold too much of all squared labels."""


def judge(found: pl.DataFrame, settings: Settings) -> None:
    """Refuse labels of which a few outweigh the rest, judged at the horizon that experts learn first; `found`
    are its `far_labels`.
    """
    horizon = settings.primary_horizon
    for far in found.iter_rows(named=True):
        said = (
            f"{far['labels']:,} labels over {horizon} bars lie more than {far_sizes(horizon):.0f} usual sizes"
            f" of their symbol from the market and hold {far['share']:.1%} of all squared labels; the"
            f" farthest is {far['symbol']} at {far['timestamp']:%Y-%m-%d %H:%M} with a log return of"
            f" {far['log_return']:+.2f}."
        )
        remedy = (
            " A split or a wrong price may have been missed: look at the panel's prices there and adjust them"
            " or leave them out. Where such moves are real, raise labels.max_far_share (now"
            f" {settings.max_far_share:g})."
        )
        if far["share"] <= settings.max_far_share:
            report("labels", said)
        elif far["moments"] < FEWEST_MOMENTS:
            warn("labels", said + remedy)
        else:
            raise LabelsRefused(said + remedy)
