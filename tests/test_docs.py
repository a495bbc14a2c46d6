"""What the docs name is there: every path in architecture.md, every command and relative link in README and
docs.
"""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from pipelines.commands.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def missing_paths(text: str) -> list[str]:
    """Paths between backticks, from the root, that do not exist; those with a placeholder are left out."""
    named = re.findall(
        r"`((?:components|pipelines|serving|feature_repo|infra|tests|docs|examples)/[\w./-]*)`", text
    )
    return [path for path in named if not (ROOT / path).exists()]


def unknown_commands(text: str) -> list[str]:
    """Commands `alphaloop ...` in blocks and backticks that the command line does not have."""
    root = get_command(app)
    unknown = []
    for line in re.findall(r"(?:^|`)alphaloop ((?:[a-z]+ ?)+)", text, flags=re.MULTILINE):
        first, *rest = line.split()
        command = root.commands.get(first)
        if command is None or (hasattr(command, "commands") and rest and rest[0] not in command.commands):
            unknown.append(line)
    return unknown


def broken_links(page: Path) -> list[str]:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    return [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_commands_and_links_are_there(page):
    text = page.read_text(encoding="utf-8")
    assert missing_paths(text) == []
    assert unknown_commands(text) == []
    assert broken_links(page) == []


def test_what_is_not_there_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "See `components/gates/nowhere.py`, [here](gone.md).\n\nalphaloop dance\nalphaloop experts fly now\n"
    )
    assert missing_paths(page.read_text()) == ["components/gates/nowhere.py"]
    assert [line.split()[:2] for line in unknown_commands(page.read_text())] == [
        ["dance"],
        ["experts", "fly"],
    ]
    assert broken_links(page) == ["gone.md"]
