"""A request that is not answered as asked, in the words of this API."""

from collections.abc import Mapping
from typing import Any

from components.contracts import AlphaloopError


class Refusal(AlphaloopError):
    """A request that is not answered as asked:

    `status` and `code` for machines, message and `field` for people.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ):
        super().__init__(message)
        self.status, self.code, self.field, self.retry_s = status, code, field, retry_s
        self.headers, self.details = dict(headers or {}), details

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON."""
        return {
            "error": {
                "code": self.code,
                "field": self.field,
                "message": str(self),
                "request_id": request_id,
                **self.details,
            }
        }
