"""A table built piece by piece has the bytes of one built in one piece, and a killed build goes on where it
stopped.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from components.contracts import FACTORS, content_sha256, read_table
from components.features import partitions
from components.features.build import build_supported
from components.features.config import Groups, Settings, SlowColumn
from components.features.errors import FeatureError
from components.features.library import GROUPS
from components.features.partitions import build_in_partitions
from components.features.regime_config import Regimes

SETTINGS = Settings(
    groups=Groups(**dict.fromkeys(GROUPS, False) | {"trend": True, "volatility": True, "regime": True}),
    slow=(SlowColumn(name="rate", normalisation="zscore"),),
    regimes=Regimes(model="hmm", fit_bars=150, refit_months=4),
)
STAMPED = {"code_version": "c1", "inputs": {"panel": "p1"}}


@pytest.fixture(scope="module")
def panel_path(random_panel, tmp_path_factory):
    path = tmp_path_factory.mktemp("panel") / "panel.parquet"
    bars = random_panel(21, bars=1100, symbols=7, missing=0.004)
    bars.with_columns(rate=pl.col("timestamp").dt.day().cast(pl.Float64)).write_parquet(path)
    return path


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pieces_of_any_size_give_the_same_bytes(panel_path, tmp_path):
    whole, entries, _ = build_supported(pl.read_parquet(panel_path), SETTINGS)
    files = set()
    for rows in (10**9, 2600, 1300):
        pieces = []
        stamp, found = build_in_partitions(
            pl.scan_parquet(panel_path),
            SETTINGS,
            tmp_path / "factors",
            rows=rows,
            on_piece=lambda *progress, pieces=pieces: pieces.append(progress),
            **STAMPED,
        )
        assert stamp.content_sha256 == content_sha256(whole)
        assert found == entries
        assert pieces == [(i + 1, len(pieces)) for i in range(len(pieces))]
        assert len(pieces) == max(1, -(-len(whole) // rows)) or rows < len(whole)
        files.add(digest(tmp_path / "factors"))
    assert len(files) == 1
    assert read_table(tmp_path / "factors", FACTORS).equals(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["factors"]


def test_too_little_history_would_show(panel_path, tmp_path, monkeypatch):
    whole, _, _ = build_supported(pl.read_parquet(panel_path), SETTINGS)
    monkeypatch.setattr(partitions, "_history_start", lambda panel, begin, moments, bars: max(begin - 40, 0))
    stamp, _ = build_in_partitions(
        pl.scan_parquet(panel_path), SETTINGS, tmp_path / "factors", rows=2600, **STAMPED
    )
    assert stamp.content_sha256 != content_sha256(whole)


def test_a_killed_build_goes_on_with_the_next_piece(panel_path, tmp_path):
    code = (
        "import sys, polars as pl\nfrom components.features.config import Settings\nfrom"
        " components.features.partitions import build_in_partitions\nsettings ="
        " Settings.model_validate_json(sys.argv[3])\nbuild_in_partitions(pl.scan_parquet(sys.argv[1]),"
        " settings, sys.argv[2], rows=900, code_version='c1', inputs={'panel': 'p1'},\n    on_piece=lambda"
        " done, pieces: print(done, flush=True))\n"
    )
    target = tmp_path / "factors"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(panel_path), str(target), SETTINGS.model_dump_json()],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().strip() == "1"
    assert process.stdout.readline().strip() == "2"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    folder = tmp_path / ".factors.pieces"
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("piece_*/table.parquet")}
    assert len(finished) >= 2
    stamps, kept = [], []

    def looked_at(done, pieces):
        kept.append({path: path.stat().st_mtime_ns for path in finished})
        stamps.append(done)

    stamp, _ = build_in_partitions(
        pl.scan_parquet(panel_path), SETTINGS, target, rows=900, on_piece=looked_at, **STAMPED
    )
    assert kept[-1] == finished
    assert stamp.content_sha256 == content_sha256(build_supported(pl.read_parquet(panel_path), SETTINGS)[0])
    assert not folder.exists()


def test_pieces_of_another_panel_or_setting_are_not_kept(panel_path, tmp_path):
    def stop(done, pieces):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_in_partitions(
            pl.scan_parquet(panel_path),
            SETTINGS,
            tmp_path / "factors",
            rows=900,
            on_piece=stop,
            code_version="c1",
            inputs={"panel": "another"},
        )
    old = (tmp_path / ".factors.pieces" / "piece_00000" / "table.parquet").stat().st_mtime_ns
    time.sleep(0.01)
    seen = []
    build_in_partitions(
        pl.scan_parquet(panel_path),
        SETTINGS,
        tmp_path / "factors",
        rows=900,
        on_piece=lambda done, pieces: seen.append(
            (tmp_path / ".factors.pieces" / "piece_00000" / "table.parquet").stat().st_mtime_ns
        ),
        **STAMPED,
    )
    assert min(seen) > old


def test_a_panel_out_of_order_is_refused(panel_path, tmp_path):
    backwards = pl.read_parquet(panel_path).reverse()
    with pytest.raises(FeatureError, match="not sorted"):
        build_in_partitions(backwards.lazy(), SETTINGS, tmp_path / "factors", **STAMPED)
    assert not (tmp_path / "factors").exists()
