"""What the calendar will say of bars to come, worked out from the newest bar's calendar inputs alone, inside
the graph. Holidays are not known to it.

Shapes: B windows, H steps to come, C calendar inputs that can be foretold (sine and cosine of each cycle in
turn), J places of a cycle, X rows of a table.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from components.experts.neural.batch import Layout
from components.timeline.periods import HOURS_A_BAR, is_daily

GROUP = "calendar"
CYCLES = {"weekday": 7, "month_position": 31, "year_position": 366, "hour": 24}
CLIP_DEVIATIONS = 5.0
COMMON_YEAR, LEAP_YEAR = "2021", "2020"


class Calendar(nn.Module):
    """From the newest bar's calendar [B, C] to that of each step [B, H, C], both standardised.

    A cycle is foretold where it can be told exactly. Daily bars on 7 days: by days. Daily bars on 5 days: by
    trading days, which needs the weekday; the five are those around the inputs' mean weekday, so that markets
    that rest on other days are understood. Bars of 1h and 4h on 7 days: by hours, which needs the hour. The
    day of the month needs the day of the year; both together tell leap years from March on, before that a
    year counts as common.
    """

    def __init__(self, layout: Layout, horizons: Sequence[int]):
        super().__init__()
        self.cycles = foretold(layout)
        names = layout.names
        self.columns = [names.index(f"{cycle}_{part}") for cycle in self.cycles for part in ("sin", "cos")]
        self.steps = len(horizons)
        if not self.cycles:
            return
        moved_XH, self.moved_by = _days_ahead(layout, horizons)
        years_2XY = _years(int(moved_XH.max()))
        self._table("moved_XH", moved_XH)
        self._table("year_X", years_2XY[:, :, 0].reshape(-1))
        self._table("month_X", years_2XY[:, :, 1].reshape(-1))
        self._table("hours_H", np.array(horizons) * HOURS_A_BAR.get(layout.period, 0))
        self.days_of_year = years_2XY.shape[1]
        for cycle in self.cycles:
            angle_J = 2 * np.pi * np.arange(CYCLES[cycle]) / CYCLES[cycle]
            self.register_buffer(
                f"places_{cycle}_J2",
                torch.tensor(np.stack([np.sin(angle_J), np.cos(angle_J)], axis=1), dtype=torch.float32),
                persistent=False,
            )
        self.register_buffer(
            "mean_C",
            torch.tensor([layout.means[column] for column in self.columns], dtype=torch.float32),
            persistent=False,
        )
        self.register_buffer(
            "deviation_C",
            torch.tensor([layout.deviations[column] for column in self.columns], dtype=torch.float32),
            persistent=False,
        )

    def _table(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(
            name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)), persistent=False
        )

    def forward(self, newest_BC: Tensor) -> Tensor:
        """The steps' calendar, clipped as inputs are."""
        if not self.cycles:
            return newest_BC.new_zeros(newest_BC.shape[0], self.steps, 0)
        raw_BC = newest_BC.float() * self.deviation_C + self.mean_C
        now_B = {
            cycle: self._place(cycle, raw_BC[:, 2 * number : 2 * number + 2])
            for number, cycle in enumerate(self.cycles)
        }
        moved_BH = self.moved_XH[now_B[self.moved_by]] if self.moved_by else self.moved_XH
        later_BH = {
            "weekday": lambda: (now_B["weekday"][:, None] + moved_BH) % 7,
            "hour": lambda: (now_B["hour"][:, None] + self.hours_H) % 24,
        }
        if "year_position" in self.cycles:
            day_BH = (self._leap(now_B) * self.days_of_year + now_B["year_position"])[:, None] + moved_BH
            later_BH |= {
                "year_position": lambda: self.year_X[day_BH],
                "month_position": lambda: self.month_X[day_BH],
            }
        raw_BHC = torch.cat(
            [getattr(self, f"places_{cycle}_J2")[later_BH[cycle]()] for cycle in self.cycles], dim=-1
        )
        return (
            ((raw_BHC - self.mean_C) / self.deviation_C)
            .clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
            .to(newest_BC.dtype)
        )

    def _place(self, cycle: str, raw_B2: Tensor) -> Tensor:
        """Number of the cycle's place that lies nearest."""
        places_J2 = getattr(self, f"places_{cycle}_J2")
        return (raw_B2[:, :1] * places_J2[:, 0] + raw_B2[:, 1:] * places_J2[:, 1]).argmax(dim=-1)

    def _leap(self, now_B: dict[str, Tensor]) -> Tensor:
        """1 where day of the month and day of the year agree in a leap year only."""
        if "month_position" not in now_B:
            return torch.zeros_like(now_B["year_position"])
        day_B, place_B = now_B["month_position"], now_B["year_position"]
        return (
            (self.month_X[place_B] != day_B) & (self.month_X[place_B + self.days_of_year] == day_B)
        ).long()


def foretold(layout: Layout) -> tuple[str, ...]:
    """Cycles of which sine and cosine are inputs and that can be told for bars to come."""
    given = {layout.names[column] for column in layout.columns(GROUP)}
    whole = [cycle for cycle in CYCLES if {f"{cycle}_sin", f"{cycle}_cos"} <= given]
    if "year_position" not in whole:
        whole = [cycle for cycle in whole if cycle != "month_position"]
    if is_daily(layout.period):
        known = layout.trading_days == 7 or "weekday" in whole
        return tuple(cycle for cycle in whole if cycle != "hour") if known else ()
    if layout.period in HOURS_A_BAR and layout.trading_days == 7 and "hour" in whole:
        return tuple(whole)
    return ()


def _days_ahead(layout: Layout, horizons: Sequence[int]) -> tuple[np.ndarray, str]:
    """Calendar days to each horizon [X, H], a row a place of the cycle that is named, or a single row."""
    bars_H = np.array(horizons)
    if layout.period in HOURS_A_BAR:
        return (np.arange(24)[:, None] + bars_H * HOURS_A_BAR[layout.period]) // 24, "hour"
    if layout.trading_days == 7:
        return bars_H[None], ""
    # Places of the week from its first trading day; from a day of rest the next bar is that first day.
    place_X1 = (np.arange(7) - _first_trading_day(layout))[:, None] % 7
    trading = place_X1 + bars_H + 2 * ((place_X1 + bars_H) // 5) - place_X1
    resting = 7 - place_X1 + (bars_H - 1) + 2 * ((bars_H - 1) // 5)
    return np.where(place_X1 < 5, trading, resting), "weekday"


def _first_trading_day(layout: Layout) -> int:
    """The weekday two days before the mean of all bars' weekdays, 0 for Monday."""
    mean_sin, mean_cos = (layout.means[layout.names.index(f"weekday_{part}")] for part in ("sin", "cos"))
    if math.hypot(mean_sin, mean_cos) < 0.1:
        return 0
    return (round(math.atan2(mean_sin, mean_cos) * 7 / (2 * math.pi)) - 2) % 7


def _years(longest: int) -> np.ndarray:
    """Days after the first of January, in a common year and in a leap year with the year that follows: place
    in the year and in the month, [2, days, 2].
    """
    tables = []
    for year in (COMMON_YEAR, LEAP_YEAR):
        day_X = np.datetime64(f"{year}-01-01") + np.arange(366 + longest)
        in_year = day_X - day_X.astype("datetime64[Y]").astype("datetime64[D]")
        in_month = day_X - day_X.astype("datetime64[M]").astype("datetime64[D]")
        tables.append(np.stack([in_year.astype(np.int64), in_month.astype(np.int64)], axis=1))
    return np.stack(tables)
