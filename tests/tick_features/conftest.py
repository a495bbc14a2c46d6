"""Features of ticks with short windows, so that small streams fill them."""

from dataclasses import replace

import pytest

import components.tick_features.catalog as catalog_module
from components.tick_features.library import FEATURES

SHORT = {1: 1, 5: 3, 20: 4, 100: 7, 600: 9}


@pytest.fixture(scope="session")
def _short_features():
    return tuple(replace(one, window=SHORT.get(one.window, 0)) for one in FEATURES)


@pytest.fixture(scope="module")
def short_windows(_short_features):
    """The library, its features under their own names, over windows of 1, 3, 4, 7 and 9 samples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_module, "FEATURES", _short_features)
        yield {one.name: one.window for one in _short_features}
