"""Where commands print their tables: as wide as the terminal, and in a pipe or a file as wide as they are."""

from rich.console import Console

# Wider than any table: nothing is folded where no screen is.
UNFOLDED = 10_000


def printer() -> Console:
    """The console on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    return console
