"""What is said of a stage that ran out of memory, by processes that really are refused memory or killed, and
of one that ended for another reason.
"""

import resource
import subprocess
import sys

import pytest

from components.experts.errors import ExpertError
from components.memory.deaths import REFUSED, how_it_ended, kernel_kills, out_of_memory, peak_here, ran_out
from components.memory.lowered import what_to_lower

MIB = 1024**2
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as Linux keeps them")


def refused(program: str, mib: int) -> subprocess.CompletedProcess:
    """Run a program that may map so much."""
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (mib * MIB, mib * MIB)),
    )


@linux
@pytest.mark.parametrize(
    ("program", "mib"),
    [
        ("x = bytearray(10**12)", 1000),
        ("import numpy; numpy.ones(10**12)", 1000),
        ("import polars; polars.repeat(1.0, 3 * 10**9, eager=True)", 6000),
        ("import pyarrow; pyarrow.allocate_buffer(10**12)", 3000),
    ],
    ids=["Python", "NumPy", "Polars", "Arrow"],
)
def test_a_library_that_was_refused_memory_is_known_by_its_last_words(program, mib):
    child = refused(program, mib)
    assert child.returncode
    said = how_it_ended("features", child.returncode, child.stdout, peak=3 * 1024**3, kernel_kills=0)
    assert said.startswith("features ran out of memory. It held 3.0 GiB at its peak; it may have ")
    assert "features.groups" in said
    assert "\n" not in said


@linux
@pytest.mark.parametrize("code", [-9, 137], ids=["a child", "below a shell"])
def test_a_kill_is_the_kernels_for_sure_where_the_kernel_counted_it(code):
    sure = how_it_ended("train lightgbm", code, "", peak=None, kernel_kills=1)
    assert "was killed by the kernel, which had no memory left" in sure
    assert "at its peak is not known" in sure
    guess = how_it_ended("train lightgbm", code, "", peak=None, kernel_kills=0)
    assert "(SIGKILL), most often the kernel's" in guess
    assert all("experts.overrides" in said for said in (sure, guess))


@pytest.mark.parametrize(
    ("code", "how"), [(3, "exit code 3"), (-11, "signal SIGSEGV"), (134, "signal SIGABRT")]
)
def test_what_ended_for_another_reason_is_not_called_out_of_memory(code, how):
    said = how_it_ended("stack", code, "one\nModuleNotFoundError: no module 'x'\n", peak=1, kernel_kills=0)
    assert said.startswith(f"stack ended with {how}")
    assert said.endswith("ModuleNotFoundError: no module 'x'")
    assert "out of memory" not in said


def test_last_words_are_the_last_ones():
    said = how_it_ended("stack", 3, "".join(f"line {k}\n" for k in range(20)), peak=1, kernel_kills=0)
    assert said.splitlines()[1:] == [f"line {k}" for k in range(12, 20)]


def test_an_error_is_known_by_what_it_came_from():
    def wrapped(cause: Exception) -> Exception:
        try:
            raise ExpertError("lightgbm failed in fold 2") from cause
        except ExpertError as error:
            return error

    assert ran_out(MemoryError())
    assert ran_out(wrapped(MemoryError()))
    assert ran_out(wrapped(RuntimeError("std::bad_alloc")))
    assert not ran_out(wrapped(ValueError("no memory of the past may be used")))
    assert not REFUSED.search("CUDA out of memory. Tried to allocate 2.00 GiB")


@linux
def test_the_peak_is_what_this_process_held(monkeypatch):
    before = peak_here()
    held = bytearray(200 * MIB + before)
    assert peak_here() >= len(held)


def test_kills_for_want_of_memory_are_the_kernels_own_count(tmp_path):
    assert kernel_kills(tmp_path) == 0, "it does not say"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("pgfault 9\noom_kill 3\nthp_split_pmd 4\n")
    assert kernel_kills(tmp_path) == 3


def test_each_stage_is_told_its_own_settings_and_all_that_rows_can_go():
    assert "labels.horizons" in what_to_lower("labels")
    assert "audit.whole_history" in what_to_lower("audit")
    assert "features.groups" not in what_to_lower("backtest")
    for stage in ("labels", "train tft", "backtest"):
        assert "market.symbols" in what_to_lower(stage)
        assert what_to_lower(stage) in out_of_memory(stage, None)


def test_stages_of_ticks_are_told_settings_of_ticks():
    assert "tick_labels.horizons_ms" in what_to_lower("tick labels")
    assert "tick_features.audit.days" in what_to_lower("tick features audit")
    for stage in ("ingest ticks", "validate ticks", "tick features", "tick training set", "tick replay"):
        assert "ticks.sessions" in what_to_lower(stage)
        assert "market." not in what_to_lower(stage)
    assert "ticks.sessions" in what_to_lower("train causal_cnn")
