"""An expert learns the same bytes from files that are mapped and from what it holds in memory."""

import tempfile

import pytest

from components.contracts import mapped
from components.experts.leaves import Leaf
from components.experts.training.inputs import Inputs
from tests.experts.studies.tables_on_disk import TIMELINE, write_inputs
from tests.experts.training.test_folds_elsewhere import assignment, made, train

SMALL_NETWORK = {
    "lookback_bars": 8,
    "patch_bars": 4,
    "stride_bars": 4,
    "training": {"epochs": 1, "max_train_windows": 200, "max_monitor_windows": 100},
}
SETTINGS = {
    "elasticnet": {},
    "lightgbm": {"rounds": 20},
    "xgboost": {"rounds": 20},
    "patchtst": SMALL_NETWORK,
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Inputs:
    found = write_inputs(tmp_path_factory.mktemp("tables"))
    return Inputs(found.training_set, found.labels, found.catalog)


@pytest.mark.parametrize("expert", SETTINGS)
def test_mapped_files_change_nothing(expert, inputs, tmp_path, monkeypatch):
    one = assignment(Leaf(expert=expert, period="1d", threads=1, settings=SETTINGS[expert]), TIMELINE)
    train(inputs, tmp_path / "held", one)
    files, lay_down = [], tempfile.TemporaryDirectory

    def counted(**about):
        files.append(about)
        return lay_down(**about)

    monkeypatch.setattr(mapped, "SMALL_BYTES", 0)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", counted)
    train(inputs, tmp_path / "mapped", one)
    assert made(tmp_path / "held" / "expert") == made(tmp_path / "mapped" / "expert")
    assert len(files) > 4, "rows were mapped too, not only the tables"
