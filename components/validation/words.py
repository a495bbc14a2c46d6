"""Phrases that the page, the terminal and the refusal of a run have in common."""

from typing import Any

from components.validation.health import Health


def span(health: Health) -> str:
    """From when to when the clean panel runs; empty where there is none."""
    if not health.get("first"):
        return ""
    return f"{health.get('first')} to {health.get('last')}, period {health.get('period')}"


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def cell(value: Any) -> str:
    """A value of a row as it is shown."""
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
