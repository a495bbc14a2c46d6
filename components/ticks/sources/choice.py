"""The sources of events by the names that the config gives them."""

from collections.abc import Mapping

from components.ticks.sources.depth_messages import read as read_depth_messages
from components.ticks.sources.lobster import read as read_lobster
from components.ticks.sources.protocol import Source
from components.ticks.sources.recorded import read as read_recorded
from components.ticks.sources.simulator import read as read_simulator

SOURCES: Mapping[str, Source] = {
    "simulator": read_simulator,
    "depth_messages": read_depth_messages,
    "lobster": read_lobster,
    "recorded": read_recorded,
}
