"""What can go wrong when features of ticks are built or audited."""

from components.contracts import AlphaloopError


class TickFeatureError(AlphaloopError):
    """The ticks cannot be turned into features."""


class TickLeakFound(AlphaloopError):
    """A feature of ticks uses what was not known at its moment."""
