"""A file that a user names: what is wrong with it is said with the setting that names it."""

import pytest

from components.contracts import AlphaloopError
from components.contracts.source_files import require_file


class OwnError(AlphaloopError):
    """Of the stage that asks."""


def test_a_file_with_something_in_it_is_given_back(tmp_path):
    (tmp_path / "bars.csv").write_text("x")
    assert require_file(tmp_path / "bars.csv", "market.path", OwnError) == tmp_path / "bars.csv"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barz.csv", r"barz.csv does not exist \(market.path\). Did you mean 'bars.csv'"),
        ("else/bars.csv", "Check the path, or set ALPHALOOP_DATA"),
        ("empty.csv", r"empty.csv \(market.path\) is empty \(0 bytes\)"),
        (".", "is a folder. Name the file in it"),
    ],
)
def test_what_is_wrong_is_said(name, message, tmp_path):
    (tmp_path / "bars.csv").write_text("x")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(OwnError, match=message):
        require_file(tmp_path / name, "market.path", OwnError)
