"""Factors that move with the level of a price: on prices adjusted backwards the level of an old bar holds the
splits and dividends that came after it.

Each symbol's whole price history is multiplied by a constant of its own, its volume divided by it, as the
adjustment for a split does; a factor made of returns, ratios or traded value stays where it was. On prices as
they were traded a level is no leak, only a number that means little across symbols: that is a remark.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from components.audit.compare import compare
from components.audit.config import Adjusted
from components.audit.cuts import spread_symbols, window
from components.audit.perturb import PRICES
from components.audit.result import AuditError, Leak
from components.audit.scene import KEY, Context, Extent, Scene, make_scene

CHECK = "price_level"
# Powers of two multiply without rounding, so that what is a ratio of prices does not move in its last bit.
POWERS = (-3, -2, -1, 1, 2, 3)
# A level moves by half of itself at least; what moves less is rounding, or the one in log(volume + 1).
TOLERANCE = 0.02
# Ranks of values that tie but for rounding, or for the one in log(volume + 1), move far on a few rows.
LEAST_MOVED = 0.01
# Counted in units of what has the price.
QUANTITIES = ("volume", "open_interest")
# A column is a price where it lies between low and high, rounding allowed for, on this share of its rows.
WITHIN_BAR, ROUNDING = 0.95, 1e-6
# How far the newest closes of a symbol are looked at for the grid of prices that its exchange trades at, the
# share of them that lie on it, and the share of the older half that still does where nothing was adjusted.
NEWEST_BARS, ON_GRID, OFF_GRID = 10, 0.9, 0.5
MOST_DECIMALS, FINER_DECIMALS = 4, 2
# Distance from the grid, as a share of its step, that counts as on it: Float32 prices of some thousands.
GRID_ROUNDING = 0.05
LEAST_GRIDDED, LEAST_BARS = 5, 60
# From this share of the symbols on whose old closes left the grid, prices were adjusted; from this share on
# whose old closes lie on it, they were not.
MANY_LEFT, MANY_STAYED = 0.3, 0.95


def price_levels(context: Context, scene: Scene, extent: Extent, adjusted: Adjusted) -> list[Leak]:
    """Leaks of the factors that move with the level of prices; none, and a note, where prices were not
    adjusted or nobody can tell.
    """
    panel, tally = scene.panel, context.tally
    if "close" not in panel.columns:
        return []
    leaks = _moved(context, scene if extent.whole else _newest_bars(context, scene, extent))
    if not leaks:
        return []
    were = is_adjusted(panel) if adjusted == "auto" else adjusted == "yes"
    if were:
        return leaks
    because = (
        "nobody can tell from these prices whether they were: say so by `adjusted`"
        if were is None
        else "these are prices as traded"
    )
    tally.notes.append(
        f"Moves with the level of prices: {', '.join(leak.factor for leak in leaks)}. On prices adjusted"
        f" backwards that knows the splits and dividends to come; here it is a remark, because {because}"
    )
    return []


def _moved(context: Context, scene: Scene) -> list[Leak]:
    """What differs once all histories were multiplied; a builder that refuses that panel is noted."""
    tally = context.tally
    try:
        # Draws of its own: those of the other checks stay what they are without this one.
        after = context.built(multiplied(scene.panel, np.random.default_rng(0)), "prices of other levels")
    except AuditError as error:
        tally.failed.setdefault(CHECK, str(error))
        return []
    tally.made[CHECK] = tally.made.get(CHECK, 0) + 1
    place = context.place(CHECK, context.calendar[-1])
    found = compare(scene.base, after, KEY, scene.columns, place, TOLERANCE, context.noise)
    return [
        replace(leak, cut=None, bars_before_cut=None, bars_ahead=None)
        for leak in found
        if leak.rows >= LEAST_MOVED * len(scene.base)
    ]


def _newest_bars(context: Context, scene: Scene, extent: Extent) -> Scene:
    panel = window(scene.panel, context.calendar, len(context.calendar) - 1, extent.lookback, 0)
    symbols = spread_symbols(panel, context.settings.max_symbols, np.random.default_rng(0))
    return make_scene(context, panel.filter(pl.col("symbol").is_in(symbols)), "the last bars of the panel")


def multiplied(panel: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The panel with each symbol's prices times a power of two of its own, and its volume divided by it."""
    code = panel["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    power = 2.0 ** rng.choice(POWERS, int(code.max()) + 1)
    factor = pl.Series(power[code])
    changed = [(panel[name] * factor).alias(name) for name in price_columns(panel)]
    changed += [(panel[name] / factor).alias(name) for name in QUANTITIES if name in panel.columns]
    return panel.with_columns(changed)


def price_columns(panel: pl.DataFrame) -> list[str]:
    """Open, high, low and close, and the columns that lie between low and high of their bar."""
    named = [name for name in PRICES if name in panel.columns]
    if not {"low", "high"} <= set(named):
        return named
    others = [
        name for name, kind in panel.schema.items() if kind.is_float() and name not in (*named, *QUANTITIES)
    ]
    slack = ROUNDING * pl.col("high").abs()
    inside = panel.select(
        pl.col(name).is_between(pl.col("low") - slack, pl.col("high") + slack).mean() for name in others
    )
    return [*named, *(name for name in others if (inside[name][0] or 0.0) >= WITHIN_BAR)]


def is_adjusted(panel: pl.DataFrame) -> bool | None:
    """Whether prices were adjusted backwards; None where they do not show it.

    An exchange trades at whole cents, or another step of its own. The newest closes of a symbol lie on that
    grid either way; the old ones leave it once they are multiplied by splits and dividends. Old closes on a
    grid that is finer by two decimals at most are those of an exchange that changed its step.
    """
    close = pl.col("close").cast(pl.Float64)
    usable = panel.select(*KEY, close).filter(close.is_finite() & (close > 0)).sort("symbol", "timestamp")
    place, count = pl.int_range(pl.len()).over("symbol"), pl.len().over("symbol")
    usable = usable.filter(count >= LEAST_BARS).with_columns(
        (place >= count - NEWEST_BARS).alias("newest"), (place < count // 2).alias("older")
    )
    shares = [
        usable.group_by("symbol").agg(
            _on_grid(decimals).filter("newest").mean().alias("newest"),
            _on_grid(decimals).filter("older").mean().alias("older"),
            _on_grid(decimals + FINER_DECIMALS).filter("older").mean().alias("finer"),
        )
        for decimals in range(MOST_DECIMALS + 1)
    ]
    # The coarsest grid on which the newest closes of a symbol lie is that of its exchange.
    there = pl.concat(shares).filter(pl.col("newest") >= ON_GRID)
    on = there.unique("symbol", keep="first", maintain_order=True)
    if len(on) < LEAST_GRIDDED:
        return None
    left, stayed = on.select(
        ((pl.col("older") < OFF_GRID) & (pl.col("finer") < ON_GRID)).mean().alias("left"),
        (pl.col("older") >= OFF_GRID).mean().alias("stayed"),
    ).row(0)
    return True if left >= MANY_LEFT else False if stayed >= MANY_STAYED else None


def _on_grid(decimals: int) -> pl.Expr:
    steps = pl.col("close") * 10**decimals
    return (steps - steps.round()).abs() <= GRID_ROUNDING
