"""Documents: written and read back alike; a key that is missing, unknown or of another type is named with its
file.
"""

import json
from datetime import UTC, datetime
from typing import Literal

import pytest

from components.contracts import ContractError
from components.contracts.documents import Document, Part


class Inner(Part):
    bars: int
    mean: float | None


class Example(Document):
    format: Literal[2] = 2
    when: datetime
    models: dict[str, Inner]


def example() -> Example:
    when = datetime(2024, 1, 2, tzinfo=UTC)
    return Example(when=when, models={"stack": Inner(bars=3, mean=None), "x": Inner(bars=4, mean=0.25)})


def test_what_was_written_is_read(tmp_path):
    example().write(tmp_path / "a.json")
    assert Example.read(tmp_path / "a.json") == example()
    assert json.loads((tmp_path / "a.json").read_text())["format"] == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d["models"]["stack"].pop("bars"), "models.stack.bars"),
        (lambda d: d["models"]["stack"].update(median=1), "models.stack.median"),
        (lambda d: d["models"]["x"].update(mean="0.25"), "models.x.mean"),
        (lambda d: d.update(format=1), "format"),
        (lambda d: d.pop("when"), "when"),
    ],
)
def test_a_key_that_does_not_fit_is_named_with_its_file(tmp_path, change, place):
    path = tmp_path / "evaluation.json"
    example().write(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(ContractError) as caught:
        Example.read(path)
    assert str(path) in str(caught.value)
    assert f"  {place}: " in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_file_that_is_no_document_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ContractError, match=r"a\.json is no Example"):
        Example.read(tmp_path / "a.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"gone\.json can't be read"):
        Example.read(tmp_path / "gone.json")
