"""`alphaloop settings` and its page: every setting has words, a unit or values, and code in which it acts."""

import pytest

from components.contracts import AlphaloopError
from pipelines.commands.settings import configuration_page, setting_groups, settings_table


@pytest.fixture(scope="module")
def every_setting():
    return {setting.key: setting for group in setting_groups() for setting in group.settings}


def test_every_setting_says_what_it_does_and_is_read_by_some_code(every_setting):
    assert [key for key, setting in every_setting.items() if not setting.meaning] == []
    assert [key for key, setting in every_setting.items() if not setting.places] == []


def test_a_setting_has_its_unit_limits_default_and_place(every_setting):
    purge = every_setting["timeline.purge_bars"]
    assert purge.unit.startswith("bars ≥ 0")
    assert purge.places == ("components/timeline/cross_validation.py", "components/timeline/splits.py")
    assert every_setting["market.period"].unit == "1d, 4h, 1h, 15m, 1m"
    assert every_setting["backtest.cost_bps_per_side"].unit.startswith("basis points")
    assert every_setting["fusion.tables.path"].default == "–"
    assert every_setting["experts.overrides.tft.training.epochs"].unit == "epochs ≥ 1"


def test_the_page_has_every_key_once(every_setting):
    page = configuration_page()
    assert page.count("| `gates.min_sharpe` |") == 1
    others = ", ".join(
        f"experts.overrides.{name}.training" for name in ("causal_cnn", "gru", "patchtst", "tft")
    )
    assert f"The same keys: {others}." in page


def test_a_section_a_key_and_neither():
    assert settings_table("gates").row_count > 10
    assert settings_table("gates.min_sharpe").row_count == 1
    assert settings_table(None).row_count == len(setting_groups())
    with pytest.raises(AlphaloopError, match="no section or setting 'gate'"):
        settings_table("gate")
