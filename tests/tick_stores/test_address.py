"""Which store an address names."""

from pathlib import Path

import pytest

from components.tick_stores.address import open_store
from components.tick_stores.embedded import EmbeddedStore
from components.tick_stores.errors import TickStoreError


@pytest.mark.parametrize("address", ["/kept/ticks", "file:///kept/ticks"])
def test_a_folder_is_the_embedded_store(address):
    assert open_store(address) == EmbeddedStore(Path("/kept/ticks"))


@pytest.mark.parametrize("address", ["s3://bucket/ticks", "file://kept", "http://host/x"])
def test_other_addresses_are_refused(address):
    with pytest.raises(TickStoreError, match="is no address of a store of ticks"):
        open_store(address)
