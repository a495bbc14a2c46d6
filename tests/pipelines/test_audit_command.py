"""`alphaloop audit` on tables and functions as people bring them: what is written, what is said, and what is
refused.
"""

import json
import sys
import textwrap
from datetime import date

import numpy as np
import polars as pl
import pytest

from pipelines.commands.audit import AuditRefused, LeaksFound, audit_command

FACTORS = """
import polars as pl
import numpy as np

close = pl.col("close")
KEY = ("timestamp", "symbol")


def clean(panel):
    momentum = (close / close.shift(3)).over("symbol").alias("momentum")
    rank = close.rank().over("timestamp").alias("rank")
    return panel.select(*KEY, momentum, rank, close.ewm_mean(span=5).over("symbol").alias("average"))


def leaking(panel):
    tomorrow = (close.shift(-1) / close).over("symbol").alias("tomorrow")
    return clean(panel).with_columns(panel.select(tomorrow).to_series())


def sorting(panel):
    return clean(panel.sort("symbol", "timestamp"))


def one_hot(panel):
    return panel.select(*KEY, "sector").to_dummies("sector")


def warm_up_left_out(panel):
    return clean(panel).drop_nulls()


def leaking_left_out(panel):
    return leaking(panel).drop_nulls()


def unseeded(panel):
    return clean(panel).with_columns(pl.Series("noise", np.random.default_rng().normal(size=len(panel))))


def unseeded_leak(panel):
    noise = 1e-4 * np.random.default_rng().normal(size=len(panel))
    return leaking(panel).with_columns((pl.col("tomorrow") + pl.Series(noise)).alias("noisy_leak"))


def long_only(panel):
    if panel["timestamp"].n_unique() < 60:
        raise ValueError("too short")
    return clean(panel)


def fails(panel):
    return panel.select("nowhere")


def refuses_the_past(panel):
    if len(panel) != 120 * 12:
        raise ValueError("only the whole panel")
    return clean(panel)


SEEN = {}


def keeps_its_scaler(panel):
    SEEN.setdefault("mean", panel["close"].mean())
    return clean(panel).with_columns((panel["close"] - SEEN["mean"]).alias("scaled"))


def no_symbol(panel):
    return panel.select("timestamp", "close")


def no_factor(panel):
    return panel.select(*KEY)


def of_the_label(panel):
    return clean(panel).with_columns((panel["target"] * 2).alias("copied"))


def of_known_labels(panel):
    encoded = pl.col("target").shift(6).rolling_mean(5).over("symbol").alias("encoded")
    return clean(panel).with_columns(panel.select(encoded).to_series())


def of_unknown_labels(panel):
    encoded = pl.col("target").shift(2).rolling_mean(5).over("symbol").alias("encoded")
    return clean(panel).with_columns(panel.select(encoded).to_series())


not_a_function = 3
"""


def table(n_bars: int = 120, n_symbols: int = 12, seed: int = 0) -> pl.DataFrame:
    """A long table with as little as the command needs, and a sector; timestamps are dates."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(rng.normal(0, 0.02, (n_bars, n_symbols)).cumsum(axis=0))
    days = (
        pl.date_range(date(2022, 1, 3), date(2030, 1, 1), "1d", eager=True)
        .filter(pl.Series([True] * 5 + [False] * 2).gather(np.arange(2921) % 7))
        .head(n_bars)
    )
    bar, symbol = (
        grid.ravel() for grid in np.meshgrid(np.arange(n_bars), np.arange(n_symbols), indexing="ij")
    )
    return pl.DataFrame(
        {
            "timestamp": days.gather(bar),
            "symbol": [f"S{s:02d}" for s in symbol],
            "close": close.ravel(),
            "sector": [f"sector {s % 3}" for s in symbol],
        }
    )


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """Runs the command in a folder that holds a module `own_factors`; returns the JSON, and keeps the text as
    `.text` of the call.
    """
    (tmp_path / "own_factors.py").write_text(textwrap.dedent(FACTORS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_factors", raising=False)

    def run(function: str, panel: pl.DataFrame, **options) -> dict:
        panel.write_parquet("panel.parquet")
        try:
            audit_command(
                f"own_factors:{function}",
                tmp_path / "panel.parquet",
                tmp_path / "out.json",
                tmp_path / "out.html",
                **{"scan_cuts": 40, **options},
            )
            code = 0
        except LeaksFound as found:
            code = found.exit_code
        said = json.loads((tmp_path / "out.json").read_text())
        assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
        assert said["passed"] is (code == 0)
        assert code == (2 if said["leaks"] else 0)
        return said

    yield run
    sys.modules.pop("own_factors", None)


def leaking(said: dict) -> set[str]:
    return {leak["factor"] for leak in said["leaks"]}


FORMS = {
    "dates": lambda t: t,
    "naive milliseconds": lambda t: t.with_columns(pl.col("timestamp").cast(pl.Datetime("ms"))),
    "nanoseconds in another zone": lambda t: t.with_columns(
        pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("America/New_York")
    ),
    "sorted by symbol": lambda t: t.sort("symbol", "timestamp"),
    "categories and whole numbers": lambda t: t.with_columns(
        pl.col("symbol").cast(pl.Categorical),
        pl.lit(7, pl.Int16).alias("flag"),
        pl.col("close").cast(pl.Float32),
    ),
    "shuffled rows": lambda t: t.sample(fraction=1.0, shuffle=True, seed=1),
    "few symbols": lambda t: t.filter(pl.col("symbol") < "S02"),
    "numbered symbols": lambda t: t.with_columns(pl.col("symbol").str.slice(1).cast(pl.Int32)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_leak_is_found_and_only_it_is_named_whatever_the_form_of_the_table(form, audit):
    panel = FORMS[form](table())
    assert leaking(audit("clean", panel)) == set()
    said = audit("leaking", panel)
    assert leaking(said) == {"tomorrow"}
    first = said["leaks"][0]
    assert {"factor", "check", "timestamp", "symbol", "size"} <= set(first)
    assert first["timestamp"].startswith("2022-")
    assert first["size"] is None or first["size"] > 0


@pytest.mark.parametrize(
    "function",
    ["clean", "sorting", "one_hot", "warm_up_left_out", "unseeded", "long_only", "of_known_labels"],
)
def test_honest_functions_raise_no_alarm(function, audit):
    panel = table(200).with_columns(
        (pl.col("close").shift(-6) / pl.col("close").shift(-1)).log().over("symbol").alias("target")
    )
    said = audit(function, panel)
    assert said["leaks"] == []
    assert [entry["factor"] for entry in said["unstable"]] == (["noise"] if function == "unseeded" else [])


def test_a_leak_larger_than_the_noise_of_an_unseeded_factor_is_found(audit):
    said = audit("unseeded_leak", table())
    assert {"tomorrow", "noisy_leak"} == leaking(said)
    assert said["unstable"][0]["check"] == "nondeterministic"


def test_a_scaler_that_is_fitted_once_and_kept_is_found(audit):
    assert leaking(audit("keeps_its_scaler", table())) == {"scaled"}


def test_a_leak_is_named_although_its_rows_are_left_out(audit):
    assert "tomorrow" in leaking(audit("leaking_left_out", table()))


@pytest.mark.parametrize("options", [{}, {"labels": ["target:6"]}])
def test_a_label_in_the_panel_counts_as_known_when_its_future_is(audit, options):
    panel = table(200).with_columns(
        (pl.col("close").shift(-6) / pl.col("close").shift(-1)).log().over("symbol").alias("target")
    )
    assert leaking(audit("of_the_label", panel, **options)) == {"copied"}
    assert leaking(audit("of_unknown_labels", panel, **options)) == {"encoded"}


def test_warm_up_and_placebo_are_reported(audit):
    said = audit("leaking", table(300))
    bars = {entry["factor"]: entry["bars"] for entry in said["warm_up"]}
    assert bars["momentum"] == 4
    assert bars["rank"] == 1
    assert 20 < bars["average"] < 60
    ic = {entry["factor"]: entry["ic"] for entry in said["placebo"]}
    assert ic["tomorrow"][0] > 0.99 > 0.1 > abs(ic["tomorrow"][1])
    assert {"placebo", "too_good"} <= {leak["check"] for leak in said["leaks"]}


def test_later_versions_of_a_bar_must_not_be_used_before_they_were_known(audit, tmp_path):
    first = (
        table(150)
        .with_columns(pl.col("timestamp").cast(pl.Datetime("us")))
        .with_columns(known_time=pl.col("timestamp"))
    )
    restated = first.filter(pl.Series(np.random.default_rng(0).random(len(first)) < 0.1)).with_columns(
        pl.col("close") * 1.1, pl.col("known_time") + pl.duration(days=20)
    )
    panel = pl.concat([first, restated]).sort("timestamp", "symbol", "known_time")
    tail = (
        "\n\ndef newest(panel):\n    return clean(panel.group_by('timestamp', 'symbol',"
        " maintain_order=True).last())\n"
    )
    tail += (
        "\n\ndef as_published(panel):\n    return clean(panel.group_by('timestamp', 'symbol',"
        " maintain_order=True).first())\n"
    )
    with (tmp_path / "own_factors.py").open("a") as module:
        module.write(tail)
    assert leaking(audit("as_published", panel)) == set()
    said = audit("newest", panel)
    assert leaking(said) == {"momentum", "rank", "average"}
    assert {leak["check"] for leak in said["leaks"]} == {"known_time"}


@pytest.mark.parametrize(
    ("function", "spoil", "words"),
    [
        ("nothing_here", None, "can't be imported"),
        ("not_a_function", None, "not a function"),
        ("fails", None, "failed on the whole panel"),
        ("refuses_the_past", None, "nothing could be checked"),
        ("no_symbol", None, "timestamp, symbol"),
        ("no_factor", None, "no factor column"),
        ("clean", lambda t: t.rename({"symbol": "ticker"}), "no column 'symbol'"),
        (
            "clean",
            lambda t: t.with_columns(pl.col("timestamp").cast(pl.String)),
            "expected a date or datetime",
        ),
        (
            "clean",
            lambda t: t.with_columns(pl.when(pl.col("close") > 60).then("timestamp").alias("timestamp")),
            "have no timestamp",
        ),
        ("clean", lambda t: t.head(12), "at least 3"),
    ],
)
def test_what_the_user_can_mend_is_refused_in_words(function, spoil, words, audit):
    panel = spoil(table()) if spoil else table()
    with pytest.raises(AuditRefused, match=words) as refused:
        audit(function, panel)
    assert refused.value.exit_code == 1
    assert len(str(refused.value)) < 1500


def test_a_missing_file_or_folder_or_label_is_refused(tmp_path):
    with pytest.raises(AuditRefused, match="does not exist"):
        audit_command("a:b", tmp_path / "none.parquet", tmp_path / "out.json")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(AuditRefused, match="can't be read"):
        audit_command("a:b", tmp_path / "broken.parquet", tmp_path / "out.json")
    with pytest.raises(AuditRefused, match="The folder of"):
        audit_command("a:b", tmp_path / "broken.parquet", tmp_path / "no" / "out.json")
    table().write_parquet(tmp_path / "panel.parquet")
    with pytest.raises(AuditRefused, match="column:bars"):
        audit_command("a:b", tmp_path / "panel.parquet", tmp_path / "out.json", labels=["nowhere:5"])
    with pytest.raises(AuditRefused, match="can't be imported"):
        audit_command("there.is.none:b", tmp_path / "panel.parquet", tmp_path / "out.json")
