"""Configuration: what is read, and that every bad file ends in an error that names file, line and key."""

from contextlib import suppress

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
        ("seed: 1\ninner: 7\n", "line 2: inner:"),
    ],
)
def test_bad_files_name_the_place(write, text, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(Outer, write(text))
    assert words in str(caught.value)
    assert "config.yaml" in str(caught.value)


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
