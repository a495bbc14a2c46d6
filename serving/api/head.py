"""What a request says before its body, read strictly: the address and the headers, each said once, and the
form of the body.
"""

from collections.abc import Mapping, Sequence
from email.message import Message
from urllib.parse import parse_qsl

from serving.api.refusal import Refusal

# Headers of which the first and the last could mean different things to a proxy and to us.
_ONCE = (b"host", b"content-type", b"content-encoding", b"content-length", b"authorization", b"x-api-key")
_QUERY = {"/score": ("cross_section", "prices")}
_UTF8 = ("utf-8", "utf8", "us-ascii")


def require_said_once(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a header that is there twice and may be there once."""
    names = [name for name, _ in headers if name in _ONCE]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1).decode()
        raise Refusal(400, "said_twice", f"The header {twice} is there twice. Send it once.", field=twice)


def require_known_query(path: str, query: bytes) -> None:
    """Refuse a parameter in the address that the route does not know, or one that is there twice."""
    if not query:
        return
    known = _QUERY.get(path, ())
    names = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    for name in names or [query.decode("latin-1")]:
        if name not in known:
            raise Refusal(
                422,
                "extra_field",
                f"{name[:100]!r} is no parameter of {path}. Remove it from the address.",
                field=name[:200],
            )
        if names.count(name) > 1:
            raise Refusal(422, "said_twice", f"{name} is twice in the address. Name it once.", field=name)


def require_no_body(method: str, body: bytes) -> None:
    """Refuse a body where none is taken."""
    if body and method == "GET":
        raise Refusal(400, "unexpected_body", "This takes no body. Send none.", field="body")


def require_type(headers: Mapping[str, str], allowed: tuple[str, ...]) -> str:
    """The media type of the body; a Refusal where it is none of the allowed, in another charset than UTF-8,
    or compressed.
    """
    said = Message()
    said["content-type"] = headers.get("content-type", "").encode("ascii", "replace").decode()
    given = said["content-type"].partition(";")[0].strip().lower()
    if given not in allowed:
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Type {given[:100]!r} is not taken here. Send {' or '.join(allowed)}.",
            field="content-type",
        )
    charset = str(said.get_param("charset", "utf-8")).strip().lower()
    if charset not in _UTF8:
        raise Refusal(
            415,
            "unsupported_media_type",
            f"The charset {charset[:100]!r} is not taken here. Send the body in UTF-8.",
            field="content-type",
        )
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise Refusal(
            415,
            "unsupported_media_type",
            f"Content-Encoding {encoding[:100]!r} is not taken here. Send the body as it is, uncompressed.",
            field="content-encoding",
            headers={"accept-encoding": "identity"},
        )
    return given
