"""Where commands print their tables: as wide as the terminal, and in a pipe or a file as wide as they are;
and what those that compile say of the image.
"""

from rich.console import Console

# Wider than any table: nothing is folded where no screen is.
UNFOLDED = 10_000


def printer() -> Console:
    """The console on standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    return console


def told_image(image: str | None) -> str:
    """The image that tasks are compiled for, by its digest where that is known, and said in one line."""
    from components.image import IMAGE
    from pipelines.runners.containers import pinned_image

    named = pinned_image(image or IMAGE)
    moves = "" if "@" in named else ", a tag that may be moved; name it as repository@sha256:... to pin it"
    print(f"Tasks run in {named}{moves}")
    return named
