"""Whether a builder makes the same table of the same panel twice: leaks smaller than what differs can't be
seen.
"""

import numpy as np
import polars as pl

from components.audit.compare import moved_rows
from components.audit.cuts import spread_symbols, window
from components.audit.result import AuditError
from components.audit.scene import KEY, Context, Extent, Scene, factor_columns

# A column that two builds of the same panel make differently: leaks are told from its noise where they are so
# many times larger.
NOISE_MARGIN = 20.0


def unstable_columns(context: Context, scene: Scene, extent: Extent) -> list[dict]:
    """Build the same panel again; the columns that differ, with the largest difference.

    Their noise is noted in `context`. Where a build takes long, a window is built twice.
    """
    first, second = _two_builds(context, scene, extent)
    unstable = []
    for name in factor_columns(first):
        if name not in second.columns:
            raise AuditError(
                f"The builder under audit gives the column {name!r} only at some calls on the same panel:"
                " nothing can be checked. Fix its seed."
            )
        moved = moved_rows(first[name], second[name], 1e-12, forgive_rounding=False)
        if moved is None:
            continue
        finite = moved.sizes[np.isfinite(moved.sizes)]
        size = float(finite.max()) if len(finite) else None
        context.noise[name] = NOISE_MARGIN * size if size else np.inf
        if moved_rows(first[name], second[name], 1e-12) is None:
            continue
        unstable.append({"factor": name, "check": "nondeterministic", "size": size, "rows": len(moved.rows)})
    return unstable


def _two_builds(context: Context, scene: Scene, extent: Extent) -> tuple[pl.DataFrame, pl.DataFrame]:
    if extent.whole:
        first, panel = scene.base, scene.panel
    else:
        last = len(context.calendar) - 1
        panel = window(scene.panel, context.calendar, last, extent.lookback, 0)
        symbols = spread_symbols(panel, context.settings.max_symbols, np.random.default_rng(0))
        panel = panel.filter(pl.col("symbol").is_in(symbols))
        first = context.built(panel, "the last bars of the panel")
    second = context.built(panel, "the same panel a second time")
    if len(first) != len(second) or not first.select(KEY).equals(second.select(KEY)):
        raise AuditError(
            "The builder under audit gives other rows each time it is called on the same panel: nothing can"
            " be checked. Fix its seed."
        )
    return first, second
