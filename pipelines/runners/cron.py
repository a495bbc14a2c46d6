"""Schedules as Kubeflow Pipelines reads them: six fields, the second in front."""

from pipelines.runners.ir import ClusterError

# Fields of a schedule as Kubeflow Pipelines reads it: name, lowest and highest value, names for the values.
CRON_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)


def cron_schedule(text: str) -> str:
    """A schedule in the six fields of Kubeflow Pipelines: five are taken to begin with the minute, so second
    0 is put in front.

    Raises
    ------
    ClusterError
        If the number of fields is another, or a field is out of its range; the message names the field.
    """
    fields = text.split()
    fields = ["0", *fields] if len(fields) == 5 else fields
    example = (
        "Write minute, hour, day of month, month and day of week, for example '0 6 * * 1-5' for six o'clock"
        " UTC on weekdays."
    )
    if len(fields) != len(CRON_FIELDS):
        raise ClusterError(f"The schedule {text!r} has {len(text.split())} fields, 5 are wanted. {example}")
    for field, (name, low, high, names) in zip(fields, CRON_FIELDS, strict=True):
        if not all(_cron_part_fits(part, low, high, names) for part in field.split(",")):
            raise ClusterError(
                f"The schedule {text!r}: {field!r} is no {name} ({low} to {high}, *, a range such as"
                f" {low}-{high}, steps such as */5, or a list). {example}"
            )
    return " ".join(fields)


def _cron_part_fits(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    """Whether one part of a list is *, ?, a value or a range within the limits, with or without a step."""
    span, _, step = part.partition("/")
    if "/" in part and not (step.isascii() and step.isdigit() and int(step) > 0):
        return False
    if span in ("*", "?"):
        return span == "*" or (low, high) in ((1, 31), (0, 6))
    numbers = [
        str(names.index(end.upper()) + low) if end.upper() in names else end for end in span.split("-")
    ]
    if not 1 <= len(numbers) <= 2 or not all(end.isascii() and end.isdigit() for end in numbers):
        return False
    first, last = int(numbers[0]), int(numbers[-1])
    return low <= first <= last <= high
