"""Whether a clean panel is enough for what the config asks of it: symbols, bars, windows and folds. Said at
once, by the same words in a run and in `alphaloop data check`.
"""

import os
from dataclasses import dataclass

import polars as pl

from components.contracts import PANEL, AlphaloopError, read_table
from components.progress import report, stage, warn
from components.settings import Section
from components.timeline import Settings as TimelineSettings
from components.timeline import TimelineError, cross_validated_splits, resolve_windows, walk_forward
from components.timeline.entry import label_reach


class NeedsSymbols(Section):
    """A setting that needs `symbols` of them at a bar, and what to do where there are fewer."""

    setting: str
    symbols: int
    why: str
    remedy: str


class Demands(Section):
    """What a config asks of a panel. `origin` names where the panel comes from; `warm_up_bars` is by group of
    factors.
    """

    origin: str
    symbols: tuple[NeedsSymbols, ...]
    warm_up_bars: dict[str, int]
    longest_horizon: int
    timeline: TimelineSettings


class PanelFallsShort(AlphaloopError):
    """The panel is not enough for the config; the message says for what, what there is, and what to do."""


@dataclass(frozen=True)
class Shortfalls:
    """Why a run can't be made of a panel, and what a person should know though it can.

    `settings_alone`: the panel is one that models can be trained on; only settings do not fit it.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    settings_alone: bool = False

    def text(self, origin: str) -> str:
        """The reasons under a line that names the panel."""
        return "\n".join([f"{origin}: not enough for this config.", *(f"- {why}" for why in self.reasons)])


def run_check_plan(panel: str | os.PathLike, *, demands: str) -> None:
    """Hold a clean panel against what the config asks of it.

    Raises
    ------
    PanelFallsShort
        If a run would fail later on.
    """
    with stage("plan"):
        asked = Demands.model_validate_json(demands)
        found = shortfalls(read_table(panel, PANEL), asked)
        for note in found.notes:
            warn("plan", note)
        if found.reasons:
            raise PanelFallsShort(found.text(asked.origin))
        report("plan", "enough symbols, bars and folds for what is asked")


def shortfalls(panel: pl.DataFrame, demands: Demands) -> Shortfalls:
    """What `demands` ask and the clean `panel` (columns `timestamp`, `symbol`) does not have."""
    calendar = panel["timestamp"].unique().sort()
    span = f"{len(calendar):,} bars, {calendar[0]:%Y-%m-%d %H:%M} to {calendar[-1]:%Y-%m-%d %H:%M}"
    span = span if len(calendar) > 1 else f"one bar, {calendar[0]:%Y-%m-%d %H:%M}"
    empty = _empty_groups(len(calendar), demands)
    # What is too short for all factors is too short for folds as well: said once.
    nothing = len(empty) == len(demands.warm_up_bars)
    too_short = [_warm_up(span, demands)] if nothing else _folds(calendar, span, demands)
    reasons = (*_symbols(panel, demands), *too_short)
    notes = []
    if panel["symbol"].n_unique() == 1:
        notes.append(
            f"The panel has one symbol, {panel['symbol'][0]}: models are judged by how they order symbols, so"
            " no model of it can be approved."
        )
    if empty:
        notes.append(
            f"The panel has {span}: too few for the longest factors of {', '.join(empty)}, which stay empty."
            f" Give a longer panel, or switch such groups off: features.groups.{empty[0]}: false."
        )
    whole = panel["symbol"].n_unique() > 1 and not nothing
    return Shortfalls(reasons, () if reasons else tuple(notes), bool(reasons) and whole)


def _symbols(panel: pl.DataFrame, demands: Demands) -> list[str]:
    """What needs more symbols than any bar has."""
    most = int(panel.group_by("timestamp").len()["len"].max())
    total = panel["symbol"].n_unique()
    named = f" ({panel['symbol'][0]})" if total == 1 else ""
    have = f"{total} {'symbol' if total == 1 else 'symbols'}{named}"
    have += "" if most == total else f", {most} at most at the same bar"
    return [
        f"{need.setting} {need.why}: it needs {need.symbols} symbols at a bar, the panel has {have}."
        f" {need.remedy}, or give the panel more symbols."
        for need in demands.symbols
        if most < need.symbols
    ]


def _empty_groups(bars: int, demands: Demands) -> list[str]:
    """Groups with factors that would never have a value with a label, those that look back furthest first."""
    reach = label_reach(demands.longest_horizon)
    long = [group for group, longest in demands.warm_up_bars.items() if longest + reach > bars]
    return sorted(long, key=lambda group: -demands.warm_up_bars[group])


def _warm_up(span: str, demands: Demands) -> str:
    """Why no group of factors is complete."""
    reach, shortest = label_reach(demands.longest_horizon), min(demands.warm_up_bars.values())
    return (
        f"The panel has {span}; every group of factors looks back further than that, {shortest} bars at"
        f" least, and a label is known {reach} bars later: {shortest + reach} are needed. Give a longer"
        " panel."
    )


def _folds(calendar: pl.Series, span: str, demands: Demands) -> list[str]:
    """Windows without bars, and folds that can't be made."""
    timeline = demands.timeline
    if timeline.fold_bars > len(calendar):
        return [
            f"timeline.fold_bars={timeline.fold_bars} is longer than the panel ({span}). Set it to a part of"
            f" the panel, such as {max(len(calendar) // 10, 5)}, or give a longer panel."
        ]
    try:
        windows = resolve_windows(calendar, timeline)
        walk_forward(windows, timeline, longest_horizon=demands.longest_horizon)
        cross_validated_splits(windows, timeline, longest_horizon=demands.longest_horizon)
    except TimelineError as error:
        return [f"{error} The panel has {span}."]
    return []
