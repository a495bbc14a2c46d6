"""How a file is spoken of: its path, the settings that describe it, and the error of the stage that
reads it.
"""

from dataclasses import dataclass
from pathlib import Path

from components.contracts.errors import AlphaloopError


@dataclass(frozen=True)
class Place:
    """A file that a setting names.

    `section` is where its settings stand, such as `market` or `market.sectors`, or `owner` what they are of,
    such as a slow table; `error` is what the stage raises.
    """

    path: Path
    error: type[AlphaloopError]
    section: str = ""
    owner: str = ""

    def setting(self, name: str) -> str:
        """The full name of a setting that describes this file."""
        return f"{self.section}.{name}" if self.section else f"`{name}` of {self.owner}"

    def refusal(self, said: str) -> AlphaloopError:
        """The stage's error, beginning with the file."""
        return self.error(f"{self.path}: {said}")


def shown(value: object) -> str:
    """A value of a file as it is quoted in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
