"""An exchange of which a third of the names are rarely traded goes from the check of its file to a report,
with nothing set but what the stops on the way advise.
"""

import polars as pl
import pytest
import yaml

from tests.pipelines.small_run import RUNS_S, SETTINGS, alphaloop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(RUNS_S)]

EXCHANGE = {
    "columns": {"open": ""},
    "planted_ic": 0.15,
    "simulator": {"symbols": 30, "bars": 360, "sectors": 3, "rare": {"share": 0.33}},
}


def config(place, name: str, market: dict, **sections) -> object:
    """A config with cheap experts that reads `market`."""
    path = place / f"{name}.yaml"
    leaves = ["median/1d/base", "elasticnet/1d/base", "lightgbm/1d/base"]
    rounds = {"lightgbm": {"rounds": 40}}
    kept = {name: SETTINGS[name] for name in ("timeline", "audit")}
    experts = {"leaves": leaves, "overrides": rounds}
    run = {"name": name, "folder": str(place / name)}
    path.write_text(yaml.safe_dump({**kept, "run": run, "market": market, "experts": experts, **sections}))
    return path


def prices(place, **rare) -> str:
    """A CSV file as an exchange gives it: a date, no open prices."""
    simulator = {**EXCHANGE["simulator"], "rare": {**EXCHANGE["simulator"]["rare"], **rare}}
    simulated = config(place, "simulated", {**EXCHANGE, "simulator": simulator})
    made = alphaloop("data", "simulate", place / "files", "--config", simulated)
    assert made.code == 0, made.text
    panel = pl.read_parquet(place / "files" / "panel.parquet")
    panel = panel.with_columns(pl.col("timestamp").dt.date().alias("date")).drop("timestamp", "sector")
    panel.write_csv(place / "prices.csv")
    return str(place / "prices.csv")


def given(path: str) -> dict:
    """The market section for such a file."""
    return {"source": "csv", "path": path, "columns": {"timestamp": "date"}, "stamp": "session_date"}


def test_a_file_with_bars_without_a_trade_needs_nothing(tmp_path):
    market = given(prices(tmp_path))
    mine = config(tmp_path, "mine", market)
    checked = alphaloop("data", "check", "--config", mine)
    assert checked.code == 0, checked.text
    assert "bars without a trade" in checked.text
    assert "0 in quarantine" in checked.text
    done = alphaloop("run", "--config", mine, folder=tmp_path / "mine")
    assert done.code == 0, done.text
    assert (tmp_path / "mine" / "report.html").exists()
    warnings = [line for line in done.text.splitlines() if line.startswith("!")]
    assert len(warnings) == len(set(warnings))
    # One expert is enough: what is read again lies before the experts.
    again = alphaloop("experts", "resume", "median", "--config", mine, folder=tmp_path / "mine")
    assert again.code == 0, again.text
    assert {"validation", "plan", "features", "audit"} <= again.stages("cached")


def test_a_file_without_rows_for_them_needs_what_the_check_says(tmp_path):
    market = given(prices(tmp_path, untraded="missing"))
    stopped = alphaloop("data", "check", "--config", config(tmp_path, "mine", market))
    assert stopped.code == 2
    assert "validation.min_coverage" in stopped.text
    advised = config(tmp_path, "mine", market, validation={"min_coverage": 0.3})
    assert alphaloop("data", "check", "--config", advised).code == 0
