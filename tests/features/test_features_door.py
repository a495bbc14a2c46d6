"""The features door: reads a stamped panel, writes a stamped factors table and its catalog."""

import json
from types import SimpleNamespace

import polars as pl
import pytest

from components.contracts import (
    FACTORS,
    FUSED,
    PANEL,
    ContractError,
    read_catalog,
    read_stamp,
    read_table,
    write_table,
)
from components.features import run as module
from components.features.catalog import catalog
from components.features.component import build_features
from components.features.config import Settings
from components.features.run import Inputs, Outputs, held
from components.features.run import run as build_from_files
from components.memory.limits import Limit
from components.memory.share import SHARE_VARIABLE


def run(folder, panel, fused=None, kept="", **settings):
    write_table(panel, folder / "panel", PANEL, code_version="c1", config_hash="m")
    paths = {name: SimpleNamespace(path=str(folder / name)) for name in ("panel", "factors", "catalog")}
    if fused is not None:
        write_table(fused, folder / "fused", FUSED, code_version="c1", config_hash="m")
        paths["fused"] = SimpleNamespace(path=str(folder / "fused"))
    build_features.python_func(settings=json.dumps(settings), period="1d", code="c1", kept=str(kept), **paths)


def test_the_door_writes_table_and_catalog_with_their_origin(tmp_path, random_panel):
    run(tmp_path, random_panel(bars=80), groups={"style": False})
    table = read_table(tmp_path / "factors", FACTORS)
    entries = read_catalog(tmp_path / "catalog")
    assert table.columns[3:] == [entry.column for entry in entries]
    assert {entry.role for entry in entries if entry.group == "style"} == {"context"}
    assert read_stamp(tmp_path / "factors").inputs == {"panel": read_stamp(tmp_path / "panel").content_sha256}


def test_the_same_panel_gives_the_same_bytes(tmp_path, random_panel):
    stamps = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, random_panel(bars=120))
        stamps.append(read_stamp(tmp_path / name / "factors").content_sha256)
    assert stamps[0] == stamps[1]


def test_a_panel_that_does_not_fit_is_built_in_pieces_with_the_same_bytes(
    tmp_path, random_panel, capsys, monkeypatch
):
    monkeypatch.setattr("components.features.run.FEWEST_ROWS", 200)
    monkeypatch.setattr("components.features.run.ROW_GROUPS_HELD", 0)
    panel = random_panel(bars=120)
    write_table(panel, tmp_path / "panel", PANEL, code_version="c1", config_hash="m")
    rate = panel.select("timestamp", "symbol", rate="close")
    write_table(rate, tmp_path / "fused", FUSED, code_version="c1", config_hash="m")
    settings = Settings(slow=({"name": "rate"},)).model_dump_json()
    inputs = Inputs(tmp_path / "panel", tmp_path / "fused")
    for name, free in (("whole", 2**40), ("pieces", 1)):
        for asked in ("room", "target"):
            monkeypatch.setattr(f"components.memory.limits.{asked}", lambda free=free: free)
        outputs = Outputs(tmp_path / name, tmp_path / f"{name}_catalog")
        build_from_files(inputs, outputs, settings=settings, code="c1")
        assert ("in pieces of about 200 rows" in capsys.readouterr().err) == (name == "pieces")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()
    assert read_catalog(tmp_path / "whole_catalog") == read_catalog(tmp_path / "pieces_catalog")


@pytest.mark.parametrize(
    ("rows", "used_gib", "share", "at_once"),
    [
        (500_000, 17.5, "0.7", True),  # more than the target is in use, and below the ceiling enough is free
        (500_000, 18.5, "0.7", False),
        (20_000_000, 0, "0.7", False),
        (500_000, 0, "0.05", False),
        (60_000, 23.9, "0.7", True),  # pieces would hold no less
    ],
)
def test_a_table_is_cut_only_where_too_little_is_free_and_that_helps(
    monkeypatch, rows, used_gib, share, at_once
):
    machine = Limit("memory of the machine", 24 * 2**30, int(used_gib * 2**30))
    monkeypatch.setattr("components.memory.limits.limits", lambda root: [machine])
    monkeypatch.setenv(SHARE_VARIABLE, share)
    assert held(columns=292).fits_at_once(rows) == at_once


def test_pieces_are_as_large_as_what_is_free_allows_beside_the_libraries(
    tmp_path, random_panel, capsys, monkeypatch
):
    row_bytes = module.ROW_BYTES + module.COLUMN_BYTES_OF_PIECE * len(catalog(Settings(), "1d"))
    for name, value in (
        ("FEWEST_ROWS", 100),
        ("ROW_GROUPS_HELD", 0),
        ("build_in_pieces", lambda *_, **__: None),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module.Held, "fits_at_once", lambda *_: False)
    free = module.BASE_BYTES + 300 * row_bytes
    monkeypatch.setattr("components.memory.limits.target", lambda: free)
    write_table(random_panel(bars=60), tmp_path / "panel", PANEL, code_version="c1", config_hash="m")
    outputs = Outputs(tmp_path / "factors", tmp_path / "catalog")
    build_from_files(Inputs(tmp_path / "panel"), outputs, settings="{}", code="c1")
    assert "in pieces of about 300 rows" in capsys.readouterr().err


def test_a_thin_panel_is_named_on_the_terminal(tmp_path, random_panel, capsys):
    run(tmp_path, random_panel(bars=60, symbols=3))
    assert "too few to rank" in capsys.readouterr().err
    run(tmp_path, random_panel(bars=60, symbols=7))
    assert "too few" not in capsys.readouterr().err


def test_a_panel_without_a_stamp_is_refused(tmp_path, random_panel):
    random_panel(bars=30).write_parquet(tmp_path / "panel")
    paths = {name: SimpleNamespace(path=str(tmp_path / name)) for name in ("panel", "factors", "catalog")}
    with pytest.raises(ContractError, match="no stamp"):
        build_features.python_func(settings=Settings().model_dump_json(), period="1d", code="c1", **paths)
    assert not (tmp_path / "factors").exists()


def test_factors_that_the_panel_cannot_support_are_left_out_and_named_once(tmp_path, random_panel, capsys):
    run(tmp_path, random_panel(bars=80).with_columns(volume=pl.lit(None, pl.Float64)))
    said = capsys.readouterr().err
    assert said.count("factors are left out") == 1
    assert "volume" in said
    entries = read_catalog(tmp_path / "catalog")
    assert read_table(tmp_path / "factors", FACTORS).columns[3:] == [entry.column for entry in entries]
    assert "amihud_20" not in {entry.factor for entry in entries}
    assert "momentum_20" in {entry.factor for entry in entries}


def test_fused_columns_become_factors_and_their_table_is_named_in_the_stamp(tmp_path, random_panel):
    panel = random_panel(bars=60)
    fused = panel.select("timestamp", "symbol", earnings=pl.col("close") / 20)[::2]
    run(tmp_path, panel, fused, slow=[{"name": "earnings", "source": "made up"}])
    table, entries = read_table(tmp_path / "factors", FACTORS), read_catalog(tmp_path / "catalog")
    assert [entry.modality for entry in entries if entry.factor == "earnings"] == ["rich", "rich"]
    assert table["earnings"].null_count() == len(panel) - len(fused)
    assert read_stamp(tmp_path / "factors").inputs == {
        name: read_stamp(tmp_path / name).content_sha256 for name in ("panel", "fused")
    }


def made_on(folder, panel, kept, fused=None, **settings) -> pl.DataFrame:
    """What the stage made, with its table kept at `kept`."""
    folder.mkdir()
    run(folder, panel, fused, kept=kept, **settings)
    return read_table(folder / "factors", FACTORS)


def test_new_bars_are_added_to_the_kept_table_with_the_bits_of_a_full_build(tmp_path, random_panel, capsys):
    panel = random_panel(bars=330)
    days = panel["timestamp"].unique().sort()
    slow = panel.select("timestamp", "symbol", slow_a=pl.col("close").shift(20).over("symbol") * 2)
    declared = {"slow": [{"name": "slow_a", "normalisation": "rank", "modality": "base"}]}
    kept = tmp_path / "kept.parquet"
    for number, last in enumerate((days[319], days[320], days[-1])):
        until = pl.col("timestamp") <= last
        table = made_on(tmp_path / f"part{number}", panel.filter(until), kept, slow.filter(until), **declared)
        said = capsys.readouterr().err
        assert ("rows added to" in said) == (number > 0)
    assert table.equals(made_on(tmp_path / "whole", panel, "", slow, **declared))
    assert read_table(kept, FACTORS).equals(table)


def test_a_notebook_calls_what_the_door_calls_and_learns_what_was_made(tmp_path, random_panel):
    panel = random_panel(bars=330)
    days = panel["timestamp"].unique().sort()
    made = []
    for last in (days[-2], days[-1]):
        until = panel.filter(pl.col("timestamp") <= last)
        write_table(until, tmp_path / "panel", PANEL, code_version="c1", config_hash="m")
        inputs = Inputs(tmp_path / "panel", kept=tmp_path / "kept")
        outputs = Outputs(tmp_path / "factors", tmp_path / "catalog")
        made.append(build_from_files(inputs, outputs, settings="{}", code="c1"))
    whole, added = made
    assert (whole.added, added.added) == (None, len(panel.filter(pl.col("timestamp") == days[-1])))
    assert added.rows == len(panel) == whole.rows + added.added
    entries = read_catalog(tmp_path / "catalog")
    assert added.inputs == sum(entry.role == "input" for entry in entries)
    assert str(added).endswith(f"{added.added} rows added to {whole.rows:,}")


@pytest.mark.parametrize("change", ["old bar", "old slow value", "settings", "damaged"])
def test_a_kept_table_whose_history_or_settings_changed_is_built_anew(tmp_path, random_panel, capsys, change):
    panel = random_panel(bars=330)
    days = panel["timestamp"].unique().sort()
    slow = panel.select("timestamp", "symbol", slow_a=pl.col("close") * 2)
    declared = {"slow": [{"name": "slow_a", "normalisation": "rank", "modality": "base"}]}
    kept, until = tmp_path / "kept.parquet", pl.col("timestamp") <= days[-2]
    made_on(tmp_path / "first", panel.filter(until), kept, slow.filter(until), **declared)
    old = pl.col("timestamp") == days[3]
    if change == "old bar":
        panel = panel.with_columns(volume=pl.when(old).then(pl.col("volume") * 2).otherwise("volume"))
    elif change == "old slow value":
        slow = slow.with_columns(slow_a=pl.when(old).then(0.5).otherwise("slow_a"))
    elif change == "settings":
        declared["window_bars"] = 30
    else:
        kept.write_bytes(kept.read_bytes()[:-100])
    capsys.readouterr()
    table = made_on(tmp_path / "second", panel, kept, slow, **declared)
    said = capsys.readouterr().err
    assert "rows added to" not in said
    assert "all is built anew" in said
    assert table.equals(made_on(tmp_path / "whole", panel, "", slow, **declared))
    assert read_table(kept, FACTORS).equals(table)
