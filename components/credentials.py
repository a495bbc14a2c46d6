"""What passwords, keys and tokens look like: such texts are refused where they would be kept, and replaced
where somebody reads them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.contracts.errors import AlphaloopError

HIDDEN = "***"
# What stands where a value would: dots and stars, a variable, a placeholder of a template.
STAND_IN = re.compile(r"\.+|\*+|x+|\$.*|<.*|\{.*|%\(.*|none|null|true|false|…|os\.environ.*", re.IGNORECASE)
# Names of variables whose value is a secret; the last words count, so TOKENIZERS_PARALLELISM and
# AWS_WEB_IDENTITY_TOKEN_FILE are none. GOOGLE_APPLICATION_CREDENTIALS names a file.
SECRET_NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE)$|(^|_)(SECRET|TOKEN|PASS|CONNECTION_?STRING)$"
    r"|(^|_)(?<!APPLICATION_)CREDENTIALS?$"
    r"|(^|_)(API|SECRET|PRIVATE|ACCOUNT|STORAGE|ENCRYPTION|SIGNING)_?KEY$|(^|_)ACCESS_?KEY(_?ID)?$|_PWD$",
    re.IGNORECASE,
)


class CredentialFound(AlphaloopError):
    """Something that is kept or handed on would hold what looks like a password, a key or a token."""


@dataclass(frozen=True)
class Rule:
    """What one kind of credential looks like; the group `secret` of the pattern is what nobody may read."""

    what: str
    pattern: re.Pattern


def _rule(what: str, pattern: str) -> Rule:
    return Rule(what, re.compile(pattern, re.IGNORECASE if "password" in what else 0))


# A value ends at a space, a quote or what separates settings.
_VALUE = r"(?P<secret>[^\s,;&\"'\\)\]}]+)"
RULES = (
    _rule("a password in an address", r"://[^/\s:@\"'\\<>]*:(?P<secret>[^/\s\"'\\<>]+)@"),
    _rule("an AWS access key", r"(?<![A-Z0-9])(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16})(?![A-Z0-9])"),
    _rule(
        "a token",
        r"(?<![A-Za-z0-9_-])(?P<secret>gh[opsru]_[A-Za-z0-9]{30,}|github_pat_\w{22,}|glpat-[\w-]{20,}"
        r"|xox[abprs]-[A-Za-z0-9-]{10,}|sk-(?:proj|ant|svcacct)-[\w-]{20,}|sk-[A-Za-z0-9]{20,}"
        r"|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}"
        r"|dapi[0-9a-f]{32}|AIza[\w-]{35}|pypi-[\w-]{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})",
    ),
    _rule("a token", r"(?:[Bb]earer|Basic) (?P<secret>[A-Za-z0-9+/._~-]{16,}=*)"),
    _rule("a key", r"[Xx]-[Aa][Pp][Ii]-[Kk][Ee][Yy][\"']?: ?[\"']?(?P<secret>[^\s\"',}]{8,})"),
    _rule("a signed address", r"[?&](?:X-Amz-(?:Signature|Security-Token)|sig)=(?P<secret>[\w%/+=-]{16,})"),
    _rule(
        "a private key",
        r"(?P<secret>-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?)",
    ),
    _rule(
        "a password or key in a setting",
        r"(?:passw(?:or)?d|passphrase|_pwd|api[-_]?key|secret_?(?:access_?)?key|client_?secret|account_?key"
        r"|access_?key_?id"
        r"|(?<![A-Za-z0-9_])(?:(?:access|auth|api|bearer|refresh|tracking)_)?token)[\"'\\]*\s?=\s?[\"'\\]*"
        + _VALUE,
    ),
    _rule(
        "a password or key in a setting",
        r"(?:passw(?:or)?d|passphrase|api_?key|secret_?(?:access_?)?key|client_?secret|access_?token)"
        r"[\\]?[\"']\s*:\s*[\\]?[\"'](?P<secret>[^\"'\\]+)",
    ),
)


def find_credential(text: str) -> str | None:
    """What a text seems to hold, in words that do not quote it; None where it holds nothing of the kind."""
    for rule in RULES:
        if any(_is_meant(found) for found in rule.pattern.finditer(text)):
            return rule.what
    return None


def without_secrets(text: str) -> str:
    """The text with stars for passwords, keys and tokens, and for the users in addresses."""
    for rule in RULES:
        text = rule.pattern.sub(_hide, text)
    return re.sub(r"(?<=://)[^/\s\"'\\<>]+@", f"{HIDDEN}@", text)


def names_a_secret(variable: str) -> bool:
    """Whether an environment variable of this name holds a password, key or token."""
    return SECRET_NAME.search(variable) is not None


def require_no_credential(values: Any, where: str) -> None:
    """Refuse values, JSON-like or text, that would be kept with a credential in them.

    Raises
    ------
    CredentialFound
        Names the place and what it looks like, never the value.
    """
    for place, text in texts(values):
        if found := find_credential(text):
            inside = f" ({'.'.join(place)})" if place else ""
            raise CredentialFound(
                f"{where}{inside} would hold {found}, and be read by others. Give it by an environment"
                " variable, on a cluster by cluster.secrets, and take it out here."
            )


def texts(values: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in JSON-like values, with the keys that lead to it; keys are texts as well."""
    if isinstance(values, str):
        yield place, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield place, str(key)
            yield from texts(value, (*place, str(key)))
    elif isinstance(values, Sequence) and not isinstance(values, bytes):
        for number, value in enumerate(values):
            yield from texts(value, (*place, str(number)))


def _is_meant(found: re.Match) -> bool:
    """Whether a match is a value, and not what stands in for one or repeats its name, as code does."""
    value = found["secret"]
    words = re.findall(r"\w+", found[0][: found.start("secret") - found.start()].lower())
    return not STAND_IN.fullmatch(value) and value.lower() not in words[-1:]


def _hide(found: re.Match) -> str:
    if not _is_meant(found):
        return found[0]
    start, end = found.span("secret")
    return found[0][: start - found.start()] + HIDDEN + found[0][end - found.start() :]
