"""Who is champion, who was, and who waits: the aliases, and the history of the champion.

MLflow keeps no history of aliases (mlflow issue 2169), so each change of champion is a tag of the registered
model, `champion.<sequence>.<random>`. Its place is counted in the registry, since the clocks of two machines
need not agree; entries of before 0.6 (`champion.<moment>.<random>`, `champion.0001`) go by their time.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import ValidationError

from components.contracts.documents.champion import Reign
from components.registry.client import RegistryError, found_or_none
from components.registry.versions import check_bundle, existing_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
_HISTORY = "champion."
_LONGEST_REASON = 2000
_LOOKS = 5


def promote(
    client: "MlflowClient", name: str, version: str | int, *, why: str, who: str, rollback: bool = False
) -> Reign:
    """Make a version champion and write down who did it, when and why; the old champion loses the alias.

    The entry in the history is made before the alias moves; a promotion that was cut short in between is
    completed by the next one of the same version and words. Of two promotions at the same time both are in
    the history, and the alias ends on the one that stands last there, which is returned to both.

    Raises
    ------
    RegistryError
        If the version does not exist or is champion already, or the reason is empty.
    BundleError
        If the version's bundle is missing, incomplete or was changed.
    """
    why = _reason(why)
    found = existing_version(client, name, version)
    previous = champion_of(client, name)
    if previous is not None and str(previous.version) == str(found.version):
        raise RegistryError(
            f"Version {found.version} of {name} is champion already. Nothing was changed; `alphaloop"
            " champions` shows since when and why."
        )
    check_bundle(client, name, found)
    history = champion_history(client, name)
    reign = Reign(
        version=int(found.version),
        previous=int(previous.version) if previous else None,
        when=datetime.now(UTC).replace(microsecond=0),
        who=who,
        why=why[:_LONGEST_REASON],
        kind="rollback" if rollback else "promotion",
        sequence=len(history) + 1,
    )
    if not (history and _same_act(history[-1], reign)):
        tag = f"{_HISTORY}{reign.sequence:06d}.{secrets.token_hex(4)}"
        client.set_registered_model_tag(name, tag, reign.model_dump_json())
    newest = _follow_history(client, name)
    challenger = version_by_alias(client, name, CHALLENGER)
    if challenger is not None and str(challenger.version) == str(found.version):
        client.delete_registered_model_alias(name, CHALLENGER)
    return newest


def rollback(client: "MlflowClient", name: str, *, why: str, who: str) -> int:
    """Make the version champion again that was champion before the present one; returns its number.

    Rolling back twice goes back two promotions, not forward again.

    Raises
    ------
    RegistryError
        If there is no champion, or none before it, or the reason is empty.
    BundleError
        If the earlier version's bundle is missing, incomplete or was changed.
    """
    present = champion_of(client, name)
    if present is None:
        raise RegistryError(
            f"{name} has no champion, so there is nothing to roll back. `alphaloop champions` shows the"
            " history."
        )
    version = _before(champion_history(client, name), int(present.version))
    if version is None:
        raise RegistryError(
            f"No version was champion of {name} before version {present.version}, so there is nothing to roll"
            " back to. Promote another one with `alphaloop promote VERSION --reason ...`."
        )
    return promote(client, name, version, why=why, who=who, rollback=True).version


def champion_history(client: "MlflowClient", name: str) -> list[Reign]:
    """Every change of champion, oldest first.

    Raises
    ------
    RegistryError
        If an entry is not as `promote` writes it; the message names its tag.
    """
    model = found_or_none(lambda: client.get_registered_model(name))
    tags = model.tags if model else {}
    reigns = [(_reign(name, key, value), key) for key, value in tags.items() if key.startswith(_HISTORY)]
    timed = sorted((one for one in reigns if one[0].sequence is None), key=lambda one: (one[0].when, one[1]))
    counted = sorted((one for one in reigns if one[0].sequence), key=lambda one: (one[0].sequence, one[1]))
    return [reign for reign, _ in (*timed, *counted)]


@dataclass(frozen=True)
class PresentChampion:
    """Who is champion by the registry; `since`, `who` and `why` are None where the alias was moved by other
    means than `promote`.
    """

    name: str
    version: int
    run_id: str
    bundle_sha256: str | None
    schema: str | None
    since: str | None
    who: str | None
    why: str | None


def present_champion(client: "MlflowClient", name: str) -> PresentChampion | None:
    """Who is champion by the registry; None where nobody is."""
    version = champion_of(client, name)
    if version is None:
        return None
    last = next(iter(reversed(champion_history(client, name))), None)
    reign = last if last and str(last.version) == str(version.version) else None
    return PresentChampion(
        name=name,
        version=int(version.version),
        run_id=version.run_id,
        bundle_sha256=version.tags.get("bundle_sha256"),
        schema=version.tags.get("schema"),
        since=reign and reign.when.isoformat(),
        who=reign and reign.who,
        why=reign and reign.why,
    )


def rolled_back(client: "MlflowClient", name: str) -> set[int | None]:
    """Versions that someone took out of the champion's place: training the same model again must not bring
    them back.
    """
    history = champion_history(client, name)
    return {reign.previous for reign in history if reign.kind == "rollback"}


def _same_act(newest: Reign, reign: Reign) -> bool:
    """Whether the newest entry of the history, whose version does not have the alias, is of this"
    " promotion."""
    told = ("version", "previous", "who", "why", "kind")
    return all(getattr(newest, name) == getattr(reign, name) for name in told)


def _reason(why: str) -> str:
    if not why.strip():
        raise RegistryError(
            "The reason is empty. Say in a few words why, for example --reason 'drift in volatility, reviewed"
            " by hand'; it is kept with the model."
        )
    return why.strip()


def _follow_history(client: "MlflowClient", name: str) -> Reign:
    """Point the alias at the history's newest entry, which is returned, and look again: somebody else may
    promote at this very moment.
    """
    for _ in range(_LOOKS):
        newest = champion_history(client, name)[-1]
        present = champion_of(client, name)
        if present is not None and int(present.version) == newest.version:
            break
        client.set_registered_model_alias(name, CHAMPION, str(newest.version))
    return newest


def _before(history: list[Reign], present: int) -> int | None:
    """The champion before `present`: the one that its newest promotion replaced; a rollback's own entry does
    not count.
    """
    for reign in reversed(history):
        if reign.version == present and reign.kind == "promotion":
            return reign.previous
    earlier = [reign.version for reign in history if reign.version != present]
    return earlier[-1] if earlier else None


def champion_of(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """The version that has the alias `champion`, as MLflow describes it."""
    return version_by_alias(client, name, CHAMPION)


def version_by_alias(client: "MlflowClient", name: str, alias: str) -> "ModelVersion | None":
    """The version that has an alias; None where nobody has it, or no such model was ever registered.

    The model's own list of aliases is asked, because MLflow says of a missing alias what it says of any
    question that it does not understand (INVALID_PARAMETER_VALUE).
    """
    model = found_or_none(lambda: client.get_registered_model(name))
    version = model.aliases.get(alias) if model else None
    return None if version is None else existing_version(client, name, version)


def _reign(name: str, tag: str, value: str) -> Reign:
    try:
        return Reign.model_validate_json(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise RegistryError(
            f"Tag {tag} of {name} is no change of champion as this version writes it ({problem}). Mend or"
            " delete the tag in MLflow."
        ) from error
