"""The plan that the service's processes start from."""

import pytest

from components.settings import ConfigError
from serving.processes.plan import PLAN_VARIABLE, PlanError, read_plan


def test_a_plan_that_is_missing_or_broken_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv(PLAN_VARIABLE, raising=False)
    with pytest.raises(PlanError, match="alphaloop serve"):
        read_plan()
    (tmp_path / "plan.json").write_text('{"folder": "x"}')
    with pytest.raises(PlanError, match="is not a serving plan"):
        read_plan(tmp_path / "plan.json")
    (tmp_path / "plan.json").write_text(
        '{"folder": "x", "name": "n", "serving": {"prot": 1}, "feature_store": {}}'
    )
    with pytest.raises(ConfigError, match="Did you mean 'port'"):
        read_plan(tmp_path / "plan.json")
