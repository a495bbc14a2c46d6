"""Commands for looking at factors: which there are, whether they leak, which are chosen, and what symbolic
regression adds.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import DEMO, ConfigOption, SetOption

app = typer.Typer()


@app.command()
def factors(
    group: Annotated[str | None, typer.Option(help="Only this group, such as trend or alpha158.")] = None,
    period: Annotated[
        str | None, typer.Option(help="Only factors of this period: 1d, 4h, 1h, 15m or 1m.")
    ] = None,
):
    """List the factor library: what each factor needs, its warm-up and where it comes from.

    Example:  alphaloop factors --group microstructure
    """
    from pipelines.commands.factors import factor_table
    from pipelines.commands.printed import printer

    printer().print(factor_table(group, period))


@app.command()
def audit(
    function: Annotated[
        str,
        typer.Argument(
            help=(
                "package.module:function that takes a Polars panel and returns timestamp, symbol and factor"
                " columns."
            )
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Parquet or CSV file of the panel: timestamp, symbol and whatever the function reads.",
        ),
    ],
    json_path: Annotated[
        Path, typer.Option("--json", help="Where the findings go, also when there are none.")
    ],
    html_path: Annotated[Path | None, typer.Option("--html", help="Where the same goes as a page.")] = None,
    cuts: Annotated[
        int,
        typer.Option(
            min=1, help="Cuts at which every check is made; further ones, with one check each, follow."
        ),
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of cuts and changes.")] = 0,
    scan_cuts: Annotated[
        int, typer.Option(min=0, help="Further cuts at most; on a large panel there are fewer.")
    ] = 4000,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            help="column:bars, a column of the panel that is known only so many bars later. May be repeated.",
        ),
    ] = None,
    adjusted: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(
            help=(
                "yes: prices were adjusted backwards, so a factor that moves with their level is a leak; no:"
                " as traded; auto: as they show."
            )
        ),
    ] = "auto",
):
    """Check factors of your own for leaks: do they use what was not known yet? Exits with 2 if one does.

    Example:  alphaloop audit my_factors:build --data panel.parquet --json leaks.json --html leaks.html
    """
    from pipelines.commands.audit import audit_command

    typer.echo(
        audit_command(
            function,
            data,
            json_path,
            html_path,
            cuts=cuts,
            seed=seed,
            scan_cuts=scan_cuts,
            labels=label or (),
            adjusted=adjusted,
        )
    )


@app.command("audit-oof")
def audit_oof(
    file: Annotated[
        Path,
        typer.Argument(
            help=(
                "Parquet or CSV file: timestamp, symbol, a column score_<expert> for each expert, and where"
                " you have them label, label_end, horizon."
            )
        ),
    ],
):
    """Check a table of out-of-fold predictions of your own before anything learns from it: duplicates, time
    that goes back, missing rows and scores, odd gaps, labels known too early. Exits with 2 if it has faults.

    Example:  alphaloop audit-oof predictions.parquet
    """
    from pipelines.commands.audit_oof import audit_oof_command

    typer.echo(audit_oof_command(file))


@app.command()
def select(
    config: ConfigOption = DEMO,
    overrides: SetOption = None,
    mode: Annotated[str, typer.Option(help="quick or full.")] = "quick",
):
    """Choose inputs inside the training window of each fold, and show the evidence for each factor.

    Trains no expert.

    Example:  alphaloop select --config pipelines/configs/us_equities.yaml --mode full
    """
    from pipelines.commands.research import run_research
    from pipelines.config import load_config

    folder = run_research("selection", load_config(config, [*(overrides or []), f"selection.mode={mode}"]))
    typer.echo(f"Evidence: {', '.join(str(path) for path in sorted(folder.glob('selection_*.html')))}")


@app.command()
def mine(config: ConfigOption = DEMO, overrides: SetOption = None):
    """Search formulas for what the stack leaves unexplained; those that add out of sample can go into
    features.formulas.

    Example:  alphaloop mine --config pipelines/configs/us_equities.yaml
    """
    from pipelines.commands.research import run_research
    from pipelines.config import load_config

    folder = run_research("mining", load_config(config, overrides or []))
    typer.echo(f"Formulas: {folder / 'formulas.yaml'}. Page: {folder / 'mining.html'}")
