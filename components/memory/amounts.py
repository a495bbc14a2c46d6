"""Amounts of memory as people read them."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def readable(amount: int) -> str:
    """Bytes in the largest unit of which there is one, such as `1.5 GiB`."""
    number, unit = float(amount), UNITS[0]
    for name in UNITS[1:]:
        if number < 1024:
            break
        number, unit = number / 1024, name
    return f"{number:.1f} {unit}" if unit in ("GiB", "TiB") else f"{number:.0f} {unit}"
