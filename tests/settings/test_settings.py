"""Configuration: what is read, and that every bad file ends in an error that names file, line and key."""

from contextlib import suppress
from datetime import date
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from components.settings import ConfigError, Section, config_hash, load_settings


class Inner(Section):
    cost_bps: float = Field(10, ge=0)
    names: tuple[str, ...] = ()


class Outer(Section):
    inner: Inner = Inner()
    parts: list[Inner] | None = None
    day: date | None = None
    steps: list[tuple[float, float]] | None = None
    limits: dict[str, float | None] | None = None
    free: dict[str, Any] | int = 0
    switch: bool = False
    seed: int


@pytest.fixture
def write(tmp_path):
    def put(text: str):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return put


def test_values_defaults_and_overrides(write):
    path = write("seed: 3\ninner:\n  names: [a]\n")
    loaded = load_settings(Outer, path, ["inner.cost_bps=2.5", "seed=4"])
    assert loaded == Outer(seed=4, inner=Inner(cost_bps=2.5, names=("a",)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 3\ninner:\n  cost_bp: 1\n", "line 3: unknown key 'inner.cost_bp'. Did you mean 'cost_bps'?"),
        ("seed: many\n", "line 1: seed: Input should be a valid integer"),
        (
            "seed: 1\ninner:\n  cost_bps: -1\n",
            "line 3: inner.cost_bps: Input should be greater than or equal to 0 (found -1)",
        ),
        ("inner: {}\n", "'seed' is missing"),
        ("seed: [1\n", "not valid YAML"),
        ("seed: 1\n inner: 2\n", "line 2: not valid YAML"),
        ("", "holds nothing"),
        ("- 1\n", "holds a list"),
        ("seed: 1\ninner: 7\n", "line 2: inner: a section is meant"),
        ("seed: 1\ninner: [a, b]\n", "line 2: inner: a section is meant, `key: value` lines"),
        ("seed: 1\ninner:\n", "line 2: inner: a section is meant, `key: value` lines"),
        ("seed: 1\ninner:\n\tcost_bps: 1\n", "line 3: not valid YAML"),
        ("seed: 1\ninner:\n\tcost_bps: 1\n", "Indent with spaces"),
        ("seed: 1\nseed: 2\n", "line 2: 'seed' is there already, in line 1. Keep one"),
        (
            "seed: 1\ninner: {names: [a]}\ninner: {cost_bps: 1}\n",
            "line 3: 'inner' is there already, in line 2",
        ),
        (
            "seed: 1\ninner: {cost_bps: 1,\n  cost_bps: 1}\n",
            "line 3: 'inner.cost_bps' is there already, in line 2",
        ),
        ("seed: yes\n", "line 1: seed: a number is meant; YAML reads yes"),
        ("seed: 1\ninner: {cost_bps: off}\n", "line 2: inner.cost_bps: a number is meant"),
        ("seed: 1\nsteps: [[0.5, on]]\n", "line 2: steps: a number is meant; YAML reads yes"),
        ("seed: 1\nlimits: {A: off}\n", "line 2: limits: a number is meant"),
        (
            "seed: 1\nparts:\n- {cost_bps: 1}\n- {cost: 1}\n",
            "line 4: unknown key 'parts.1.cost'. Did you mean",
        ),
        ("seed: 1\nparts:\n- {cost_bps: 1}\n-\n  cost_bps: 1\n  cost_bps: 2\n", "line 6: 'parts.1.cost_bps'"),
        ("seed: 1\nday: 2024-13-01\n", "line 2: '2024-13-01' is not valid YAML: month must be in 1..12"),
        ("seed: 1\nday: tomorrow\n", "line 2: day: Input should be a valid date"),
        ("seed: 1\n---\nseed: 2\n", "line 2: not valid YAML"),
    ],
)
def test_bad_files_name_the_place(write, text, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(Outer, write(text))
    assert words in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_what_looks_like_a_fault_and_is_none_is_taken(write):
    text = (
        "seed: 3\nswitch: yes\ninner: {cost_bps: 1}\nparts: [{cost_bps: 1}, {cost_bps: 1}]\nday: 2024-02-29\n"
        "steps: [[0, 1]]\nlimits: {A: 1, B: null}\nfree: {a: [yes]}\n"
    )
    loaded = load_settings(Outer, write(text))
    assert (loaded.steps, loaded.limits, loaded.free) == ([(0, 1)], {"A": 1, "B": None}, {"a": [True]})
    assert (loaded.switch, len(loaded.parts), loaded.day) == (True, 2, date(2024, 2, 29))
    assert (
        load_settings(Outer, write("base: &b {cost_bps: 2}\n".replace("base", "inner") + "seed: 3\n")).seed
        == 3
    )
    merged = "inner: &one {cost_bps: 2, names: [a]}\nparts:\n- {<<: *one, cost_bps: 3}\nseed: 1\n"
    assert load_settings(Outer, write(merged)).parts == [Inner(cost_bps=3, names=("a",))]


def test_a_long_value_does_not_fill_the_screen(write):
    with pytest.raises(ConfigError) as caught:
        load_settings(Outer, write(f"seed: 1\ninner: [{', '.join('x' * 9 for _ in range(500))}]\n"))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "not of the form"),
        ("seed.x=1", "is the value 1, not a section"),
        ("inner.cost_bps=much", "--set inner.cost_bps=much"),
        ("a.b=1", "unknown key"),
    ],
)
def test_bad_overrides_are_named(write, override, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(Outer, write("seed: 1\n"), [override])
    assert words in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="can't be read"):
        load_settings(Outer, tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text file"):
        load_settings(Outer, tmp_path / "binary.yaml")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_settings_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with suppress(ConfigError):
        assert isinstance(load_settings(Outer, path), Outer)


def test_the_hash_follows_the_values_only():
    assert config_hash(Inner(cost_bps=1)) == config_hash(Inner(names=(), cost_bps=1.0))
    assert config_hash(Inner(cost_bps=1)) != config_hash(Inner(cost_bps=2))


def test_a_key_that_was_replaced_is_told_with_the_new_one(write):
    class Judged(Section):
        replaced: ClassVar = {"gain": "level, a chance"}
        levels: int = 1

    class Whole(Section):
        part: Judged = Judged()

    with pytest.raises(ConfigError, match=r"unknown key 'part.gain'. It was replaced by level, a chance\."):
        load_settings(Whole, write("part: {gain: 1}\n"))
