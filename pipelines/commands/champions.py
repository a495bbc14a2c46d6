"""Who is champion, who was, and changing it by hand: what `alphaloop promote`, `rollback` and
`champions` do.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from components.contracts.documents.champion import Reign
from components.registry.aliases import CHALLENGER, CHAMPION, champion_history, promote, rollback
from components.registry.client import RegistryError, open_existing
from pipelines.commands.review import renew_page, user_name
from pipelines.config import Config


def promote_version(config: Config, version: int, reason: str, who: str | None = None) -> str:
    """Make a version champion; returns what to tell.

    Raises
    ------
    RegistryError, BundleError
        If the reason is empty, the version does not exist, is champion already, or its bundle is not whole.
    """
    client = _client(config)
    newest = promote(client, config.run.name, version, why=reason, who=who or user_name())
    renew_page(config)
    if newest.version != version:
        raise RegistryError(
            f"Version {newest.version} of {config.run.name} was promoted by {newest.who} at the same moment"
            f" as version {version}, and is champion now. Both are in the history: `alphaloop champions`."
        )
    return (
        f"{config.run.name} version {version} is champion now. A running service takes it over within"
        " seconds; `alphaloop rollback --reason ...` undoes it."
    )


def rollback_version(config: Config, reason: str, who: str | None = None) -> str:
    """Make the version before the present champion champion again; returns what to tell.

    Raises as `promote_version`.
    """
    client = _client(config)
    version = rollback(client, config.run.name, why=reason, who=who or user_name())
    renew_page(config)
    return (
        f"{config.run.name} is back on version {version}. A running service takes it over within seconds. No"
        " run promotes the other one again by itself."
    )


def champions_table(config: Config) -> Table:
    """Every reign, newest first: version, since, until, who, why, and whether the version has the alias now;
    the challenger stands below.
    """
    client = _client(config)
    name = config.run.name
    history = champion_history(client, name)
    aliases = _aliases(client, name)
    table = Table(title=f"Champions of {name}", title_justify="left", caption_justify="left")
    for column in ("version", "since (UTC)", "until (UTC)", "by", "why", "alias"):
        table.add_column(column, overflow="fold")
    for place, reign in reversed(list(enumerate(history))):
        newest = place + 1 == len(history)
        reigns = newest and aliases.get(CHAMPION) == reign.version
        until = "now" if reigns else "not known" if newest else _minute(history[place + 1].when)
        kind = "rollback: " if reign.kind == "rollback" else ""
        alias = CHAMPION if reigns else ""
        table.add_row(
            str(reign.version),
            _minute(reign.when),
            until,
            escape(reign.who),
            escape(kind + reign.why),
            alias,
        )
    table.caption = "\n".join(_remarks(history, aliases))
    return table


def _remarks(history: list[Reign], aliases: Mapping[str, int]) -> list[str]:
    said = [] if history else ["There was no champion yet."]
    if CHALLENGER in aliases:
        said.append(
            f"Version {aliases[CHALLENGER]} waits as {CHALLENGER}: alphaloop promote {aliases[CHALLENGER]}"
            " --reason ..."
        )
    if CHAMPION in aliases and (not history or history[-1].version != aliases[CHAMPION]):
        said.append(
            f"The alias {CHAMPION} is on version {aliases[CHAMPION]}, though nobody promoted it last: it was"
            " moved by other means."
        )
    if history and CHAMPION not in aliases:
        said.append(
            f"Nobody is {CHAMPION}: version {history[-1].version}, the last one, was deleted in MLflow or"
            " lost the alias there. `alphaloop promote VERSION --reason ...` makes a version champion."
        )
    return said


def _aliases(client: Any, name: str) -> dict[str, int]:
    """Version by alias."""
    found = client.search_registered_models(f"name = '{name}'")
    return (
        {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}
        if found
        else {}
    )


def _client(config: Config) -> Any:
    return open_existing(config.registry, Path(config.run.folder).absolute() / "registry")


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
