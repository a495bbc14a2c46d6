"""Limits are read, kept to and told of where the kernel really keeps them, in a control group of our own."""

import json
import subprocess
import sys

import pytest

from components.memory.deaths import how_it_ended, kernel_kills
from tests.memory.control_groups import can_limit, limited

MIB = 1024**2
pytestmark = pytest.mark.skipif(not can_limit(), reason="no control group of memory can be made here")


def in_group(program: str, mib: int, *arguments: str) -> subprocess.CompletedProcess:
    with limited(mib * MIB) as group:
        return subprocess.run(
            group.command([sys.executable, "-c", program, *arguments]),
            capture_output=True,
            text=True,
            check=False,
        )


def test_the_groups_limit_is_the_one_that_is_met_first():
    program = (
        "import json; from components.memory.limits import end, limit, room, target\n"
        "one = limit(); print(json.dumps([one.bytes, one.where, end().bytes, target(), room(), one.used]))"
    )
    bytes_, where, most, target, room, used = json.loads(in_group(program, 300).stdout)
    assert bytes_ == most == 300 * MIB
    assert "alphaloop-" in where
    assert 1 * MIB < used < 100 * MIB
    assert 0.7 * 300 * MIB - 100 * MIB < target < 0.7 * 300 * MIB - 1 * MIB
    assert target <= room <= 0.7 * 300 * MIB


def test_a_stage_that_can_never_fit_there_is_not_begun_and_one_that_fits_says_nothing(tmp_path):
    program = (
        "import sys; from components.memory.need import MIB, Need; import polars as pl\n"
        "pl.DataFrame({'x': [1.0]}).write_parquet(sys.argv[1])\n"
        "Need('stack', base=int(sys.argv[2]) * MIB, row=0, cell=0).require(sys.argv[1])"
    )
    refused = in_group(program, 300, str(tmp_path / "table"), "450")
    assert refused.returncode
    assert (
        "stack needs about 450 MiB of memory, no less than 315 MiB, and no more than 300 MiB"
        in refused.stderr
    )
    assert "it is not begun" in refused.stderr
    fits = in_group(program, 300, str(tmp_path / "table"), "50")
    assert (fits.returncode, fits.stderr) == (0, "")


def test_what_outgrows_it_is_killed_by_the_kernel_and_that_is_said():
    kills = kernel_kills()
    child = in_group("held = bytearray(200 * 2**20)", 100)
    said = how_it_ended(
        "features", child.returncode, child.stderr, peak=None, kernel_kills=kernel_kills() - kills
    )
    assert said.startswith("features was killed by the kernel, which had no memory left for it.")


def test_a_table_larger_than_it_is_mapped_there_and_can_not_be_read_there(tmp_path):
    """240 MiB of values where 200 MiB may be held."""
    program = """
import sys, numpy as np, polars as pl
from components.contracts import FACTORS, content_sha256, map_table, read_table, write_table
if sys.argv[2] == "write":
    rows = pl.DataFrame({"timestamp": range(300_000), "symbol": "A", "known_time": 0})
    rows = rows.with_columns(pl.col("timestamp", "known_time").cast(pl.Datetime("us", "UTC")))
    drawn = np.random.default_rng(3).standard_normal((300_000, 200), dtype=np.float32)
    table = rows.hstack(pl.DataFrame(drawn))
    write_table(table, sys.argv[1], FACTORS, code_version="c", config_hash="s")
else:
    table = {"map": map_table, "read": read_table}[sys.argv[2]](sys.argv[1], FACTORS)
    print(content_sha256(table))
"""
    path = str(tmp_path / "table")
    assert in_group(program, 2000, path, "write").returncode == 0
    read, mapped = in_group(program, 200, path, "read"), in_group(program, 200, path, "map")
    assert read.returncode == -9
    assert (mapped.returncode, mapped.stdout) == (0, in_group(program, 2000, path, "read").stdout)
