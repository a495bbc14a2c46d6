"""What `alphaloop audit` does: checks anybody's own factor function on anybody's own panel, and writes what
it found as JSON and as a page.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from components.audit.builders import fresh_builder, load_builder
from components.audit.config import Adjusted, Settings
from components.audit.factors import audit_factors
from components.audit.page import page_html
from components.audit.result import ADVICE, AuditError, AuditResult, Leak
from components.contracts import AlphaloopError, atomic_write_text

READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".pq": pl.read_parquet,
    ".csv": lambda path: pl.read_csv(path, try_parse_dates=True, infer_schema_length=10_000),
    ".feather": pl.read_ipc,
    ".arrow": pl.read_ipc,
    ".ipc": pl.read_ipc,
}
# The command stands alone and may look closer than a stage of every run: at every bar of a small panel.
SCAN_CUTS = 4000
STAGGERED_BUILDS = 12


class AuditRefused(AlphaloopError):
    """The audit could not be made, for a reason that the user can mend."""

    exit_code = 1


class LeaksFound(AlphaloopError):
    """The audit was made and found leaks; the message is the summary for the terminal."""

    exit_code = 2
    title = "Leaks found"


def audit_command(
    function: str,
    data: Path,
    json_path: Path,
    html_path: Path | None = None,
    *,
    cuts: int = 5,
    seed: int = 0,
    scan_cuts: int = SCAN_CUTS,
    labels: Sequence[str] = (),
    adjusted: Adjusted = "auto",
) -> str:
    """Audit `function` (package.module:function) on the panel in the file `data`; returns the summary for the
    terminal.

    The function takes the panel as a Polars table and returns `timestamp`, `symbol` and a column a factor. A
    module in the current directory is found. `labels` are `column:bars`: columns of the panel that hold the
    future, and the bars after which each is known; `adjusted` says whether prices were adjusted backwards.
    The JSON (`passed`, `leaks`, `unstable`, `warm_up`, `placebo`, `checked`) and the page are written whether
    or not there are leaks.

    Raises
    ------
    LeaksFound
        If there are leaks (exit code 2), after both files were written.
    AuditRefused
        If function, file or columns do not fit, or the function fails (exit code 1).
    """
    try:
        for target in (json_path, html_path):
            _require_folder(target)
        settings = Settings(
            cuts=cuts,
            scan_cuts=scan_cuts,
            staggered_builds=STAGGERED_BUILDS,
            adjusted=adjusted,
        )
        result = _find_leaks(function, read_panel(Path(data)), labels, settings, seed)
    except AlphaloopError as error:
        raise AuditRefused(str(error)) from error
    result.write_json(json_path)
    if html_path is not None:
        atomic_write_text(html_path, page_html(result, title=f"Leak audit of {function}"))
    text = summary(result, json_path, html_path)
    if not result.passed:
        raise LeaksFound(text)
    return text


def _find_leaks(
    function: str, panel: pl.DataFrame, labels: Sequence[str], settings: Settings, seed: int
) -> AuditResult:
    known_after = dict(_label(text, panel) for text in labels)
    return audit_factors(
        panel,
        load_builder(function),
        cuts=settings.cuts,
        seed=seed,
        labels=known_after,
        fresh=partial(fresh_builder, function),
        settings=settings,
    )


def _reader(path: Path) -> Callable[[Path], pl.DataFrame] | None:
    """By the file's ending; artifacts of runs are Parquet without one."""
    if not path.is_file():
        return None
    if path.suffix.lower() in READERS:
        return READERS[path.suffix.lower()]
    with path.open("rb") as file:
        return pl.read_parquet if file.read(4) == b"PAR1" else None


def read_panel(path: Path) -> pl.DataFrame:
    """A long table with `timestamp` and `symbol` and whatever else; AuditError where it is not one."""
    try:
        path.stat()
        str(path).encode()
        reader = _reader(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AuditError(
            f"{path} does not exist. Give --data the file of the panel, such as panel.parquet."
        ) from error
    except (OSError, UnicodeEncodeError) as error:
        shown = str(path).encode(errors="backslashreplace").decode()[:300]
        raise AuditError(
            f"{shown} can't be read: {error}. Give a file that you may read, of a shorter, plain name."
        ) from error
    if reader is None:
        raise AuditError(
            f"{path} is not a file that the audit reads ({', '.join(READERS)}). Write the panel as Parquet."
        )
    try:
        panel = reader(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise AuditError(
            f"{path} can't be read: {str(error)[:300]}. Write the panel as Parquet again."
        ) from error
    for name in ("timestamp", "symbol"):
        if name not in panel.columns:
            raise AuditError(
                f"{path} has no column {name!r} (found: {', '.join(panel.columns)}). Rename yours to"
                " timestamp and symbol."
            )
        if panel[name].null_count():
            raise AuditError(
                f"{path}: {panel[name].null_count():,} rows have no {name}. Remove them: nobody can tell"
                " when, or of what, they are."
            )
    kind = panel.schema["timestamp"]
    if kind.base_type() not in (pl.Datetime, pl.Date):
        raise AuditError(
            f"{path}: the column timestamp has type {kind}, expected a date or datetime. Convert it, for"
            " example with str.to_datetime() or pl.from_epoch()."
        )
    years = panel["timestamp"].dt.year()
    first, last = years.min(), years.max()
    if len(panel) and not 1 <= first <= last <= 9999:
        raise AuditError(
            f"{path}: the column timestamp holds years from {first} to {last}. Convert it with the right"
            " unit, such as pl.from_epoch(..., 'ms')."
        )
    return panel


def summary(result: AuditResult, json_path: Path, html_path: Path | None) -> str:
    """The verdict in a screen of text."""
    checked = result.checked
    lines = []
    factors = dict.fromkeys(leak.factor for leak in result.leaks)
    if result.passed:
        lines.append(
            f"No leak found in {checked['factors']} factors at {len(checked['cuts'])} cuts"
            f" ({checked['factor_values_compared']:,} values compared)."
        )
    else:
        lines.append(f"{len(factors)} of {checked['factors']} factors leak:")
        lines += [
            _line(factor, [leak for leak in result.leaks if leak.factor == factor])
            for factor in list(factors)[:12]
        ]
        lines += [f"and {len(factors) - 12} more"] if len(factors) > 12 else []
        lines += [
            f"{check}: {ADVICE[check]}."
            for check in dict.fromkeys(leak.check for leak in result.leaks)
            if check in ADVICE
        ]
    if result.unstable:
        names = ", ".join(entry["factor"] for entry in result.unstable[:5])
        lines.append(
            f"Not reproducible, so only leaks larger than their own noise can be seen: {names}. Fix their"
            " seed."
        )
    lines += [f"Note: {note}." for note in checked["notes"][:6]]
    lines.append(f"Details: {json_path}" + (f", {html_path}" if html_path else ""))
    return "\n".join(lines)


def _line(factor: str, leaks: Sequence[Leak]) -> str:
    others = ", ".join(leak.check for leak in leaks[1:])
    return f"- {leaks[0].sentence()}" + (f" (also {others})" if others else "")


def _label(text: str, panel: pl.DataFrame) -> tuple[str, int]:
    name, separator, bars = text.rpartition(":")
    if not separator or not bars.isdigit() or name not in panel.columns:
        raise AuditError(
            f"--label {text!r} is not column:bars with a column of the panel ({', '.join(panel.columns)}),"
            " for example --label return_5:6."
        )
    return name, int(bars)


def _require_folder(path: Path | None) -> None:
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise AuditError(f"The folder of {path} does not exist. Create it, or write elsewhere.")
