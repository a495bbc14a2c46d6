"""Our Alpha158 group against figures that Qlib's own handler gave for the same made-up panel.

Compared are the windows that are complete: Qlib fills short windows and windows with missing days with what
it has, ours count the symbol's own bars and are null until they are whole. Further deliberate differences,
each checked below: where a denominator is 0 (flat bar, no volume) Qlib divides by 1e-12, ours is null; the
volume ratio of CORD after a bar without volume is infinite in Qlib, which then leaves that bar out of its
window, ours is null. Qlib stores Float32 and so do we: correlations near 0 agree to 2e-6, everything else to
1e-5 of its size.
"""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from components.features.build import build_factors
from components.features.config import Groups, Settings
from components.features.library import FACTORS, GROUPS
from tests.features.alpha158_panel import FLAT, GOLDEN, MISSING, NO_VOLUME, SEED, made_up_panel

SETTINGS = Settings(groups=Groups(**{name: name == "alpha158" for name in GROUPS}))
ALPHA158 = [factor for factor in FACTORS if factor.group == "alpha158"]
OVER_A_SPAN = {"KMID2", "KUP2", "KLOW2", "KSFT2"}


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def built() -> pl.DataFrame:
    return build_factors(made_up_panel(), SETTINGS)


def qlib_name(factor) -> str:
    return factor.source.split()[-1]


def is_whole(symbol: int, bar: int, warm_up_bars: int) -> bool:
    """All days of the window are there."""
    return bar + 1 >= warm_up_bars and not any(
        s == symbol and bar - warm_up_bars < b <= bar for s, b in MISSING
    )


def is_meant_to_differ(symbol: int, bar: int, factor) -> bool:
    name = qlib_name(factor)
    after_no_volume = symbol == NO_VOLUME[0] and NO_VOLUME[1] < bar <= NO_VOLUME[1] + factor.warm_up_bars - 1
    return ((symbol, bar) == FLAT and name in OVER_A_SPAN) or (name.startswith("CORD") and after_no_volume)


def ours_at(built: pl.DataFrame, symbol: str, bar: int) -> dict:
    timestamp = datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=bar + 1)
    return built.filter((pl.col("symbol") == symbol) & (pl.col("timestamp") == timestamp)).row(0, named=True)


def test_all_158_are_there_under_qlibs_names(recorded):
    assert recorded["seed"] == SEED
    theirs = set(recorded["rows"][0]["values"])
    assert len(theirs) == 158
    assert {qlib_name(factor) for factor in ALPHA158} == theirs
    names = {factor.name: qlib_name(factor) for factor in ALPHA158}
    assert (
        names["alpha158_roc_5"],
        names["alpha158_kmid2"],
        names["alpha158_vwap_0"],
        names["alpha158_vsumd_60"],
    ) == ("ROC5", "KMID2", "VWAP0", "VSUMD60")


def test_values_are_qlibs_where_the_window_is_whole(recorded, built):
    compared = 0
    for row in recorded["rows"]:
        symbol, ours = int(row["symbol"][1:]), ours_at(built, row["symbol"], row["bar"])
        for factor in ALPHA158:
            if is_whole(symbol, row["bar"], factor.warm_up_bars) and not is_meant_to_differ(
                symbol, row["bar"], factor
            ):
                assert ours[factor.name] == pytest.approx(
                    row["values"][qlib_name(factor)], rel=1e-5, abs=2e-6
                ), (factor.name, row["symbol"], row["bar"])
                compared += 1
    assert compared == 549


def test_what_differs_differs_as_said(recorded, built):
    rows = {(int(row["symbol"][1:]), row["bar"]): row for row in recorded["rows"]}
    flat, ours = rows[FLAT]["values"], ours_at(built, "S06", FLAT[1])
    for name in OVER_A_SPAN:
        assert flat[name] == 0.0
        assert ours[f"alpha158_{name.lower()}"] is None
    after, ours = rows[NO_VOLUME[0], NO_VOLUME[1] + 2]["values"], ours_at(built, "S05", NO_VOLUME[1] + 2)
    assert after["CORD5"] is not None
    assert ours["alpha158_cord_5"] is None
    assert ours["alpha158_corr_5"] == pytest.approx(after["CORR5"], abs=2e-6)
    assert ours_at(built, *("S05", NO_VOLUME[1]))["alpha158_vma_5"] is None


def test_the_comparison_would_notice_another_formula(recorded, built):
    row = recorded["rows"][0]
    ours = ours_at(built, row["symbol"], row["bar"])
    assert ours["alpha158_std_5"] * np.sqrt(4 / 5) != pytest.approx(row["values"]["STD5"], rel=1e-3)
    assert ours["alpha158_imax_20"] - 1 / 20 != pytest.approx(row["values"]["IMAX20"], rel=1e-3)
    assert ours["alpha158_cntp_5"] != pytest.approx(row["values"]["CNTP10"], rel=1e-3)
