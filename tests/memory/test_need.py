"""A stage that can never fit is refused before it reads anything; one that may not is warned of; one with
room starts without a word.
"""

import polars as pl
import pytest

from components.contracts import ContractError
from components.memory import need
from components.memory.need import LEAST, Need, TooLittleMemory, table_size

MIB = 1024**2
NEED = Need("stack", base=100 * MIB, row=1000, cell=100)


@pytest.fixture
def table(tmp_path):
    pl.DataFrame({"a": range(50_000), "b": 1.0}).write_parquet(tmp_path / "table")
    return tmp_path / "table"


@pytest.fixture
def machine(tmp_path):
    def of(mib: float, *, free: float | None = None, swap: float = 0):
        kib = {"MemTotal": mib, "MemAvailable": mib if free is None else free, "SwapFree": swap}
        (tmp_path / "proc").mkdir(exist_ok=True)
        lines = [f"{name}: {int(size * 1024)} kB\n" for name, size in kib.items()]
        (tmp_path / "proc" / "meminfo").write_text("".join(lines))
        return tmp_path

    return of


@pytest.fixture
def warned(monkeypatch):
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(need, "warn", lambda *words: said.append(words))
    return said


def test_what_it_needs_grows_with_rows_and_columns(table):
    assert table_size(table) == (50_000, 2)
    with pytest.raises(ContractError, match="nowhere"):
        table_size(table.with_name("nowhere"))
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(ContractError, match="table"):
        table_size(table)
    assert NEED.bytes(50_000, 2) == 100 * MIB + 50_000 * 1200


def test_what_can_never_fit_is_refused_with_stage_need_limit_and_what_to_lower(table, machine, warned):
    least = LEAST * NEED.bytes(50_000, 2) / MIB
    with pytest.raises(TooLittleMemory) as refused:
        NEED.require(table, root=machine(least - 1))
    text = str(refused.value)
    assert text.startswith("For 50,000 rows of 2 columns stack needs about 157 MiB of memory, no less than ")
    assert "(memory of the machine): it is not begun. Give the run fewer symbols or bars" in text
    assert "\n" not in text
    assert warned == []
    NEED.require(table, root=machine(least + 1))
    assert [stage for stage, _ in warned] == ["stack"], "it starts: the formula is an estimate"


def test_swap_is_slower_and_no_reason_to_refuse(table, machine, warned):
    NEED.require(table, root=machine(60, swap=100))
    assert len(warned) == 1


def test_what_others_hold_now_is_warned_of_and_refuses_nothing(table, machine, warned):
    NEED.require(table, stage="train lightgbm", root=machine(1000, free=150))
    ((stage, words),) = warned
    assert stage == "train lightgbm"
    assert "train lightgbm needs about 157 MiB of memory, and 150 MiB of 1000 MiB are free" in words


def test_a_fifth_stays_free_or_it_is_warned_of(table, machine, warned):
    NEED.require(table, root=machine(1000, free=200 + 158))
    assert warned == []
    NEED.require(table, root=machine(1000, free=200 + 156))
    assert len(warned) == 1


def test_with_room_nothing_is_said(table, machine, warned):
    NEED.require(table, root=machine(1000))
    assert warned == []


def test_where_the_system_tells_of_no_limit_nothing_is_refused(table, tmp_path, warned):
    Need("stack", base=10**15, row=0, cell=0).require(table, root=tmp_path / "nothing")
    assert warned == []
