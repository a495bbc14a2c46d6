"""How models are called on the page."""

from components.report.picture import shown_name


def test_experts_of_coarser_periods_and_rich_ones_are_told_apart():
    named = {
        "lightgbm": "LightGBM",
        "lightgbm_1d": "LightGBM, 1d",
        "lightgbm_rich": "LightGBM, rich",
        "lightgbm_4h_rich": "LightGBM, 4h, rich",
        "my_expert_1d": "my_expert_1d",
        "z_shrunk": "Z shrunk weights",
    }
    assert {name: shown_name(name) for name in named} == named
