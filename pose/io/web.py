"""What HTTP URLs give; a user and a password in one are used, and are in no message or name."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from pose.io.errors import UserError, reading

HTTP_SCHEMES = {"http", "https"}


def scheme(source: Any) -> str:
    """`https` of `HTTPS://host/path`; empty for what is no URL."""
    return source.partition("://")[0].lower() if isinstance(source, str) and "://" in source else ""


def public_name(url: str) -> str:
    """The URL without user and password, for messages and results; what is no URL stays as it is."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1)


def open_url(url: str, kind: str, timeout: float) -> Any:
    """The answer of an HTTP URL, to be closed; no redirect is given the password.

    kind: what it should be, for messages. timeout: seconds of one wait; `within` bounds all of them together.
    UserError, naming the URL, for one that does not answer or answers with an error.
    """
    name = public_name(url)
    with reading(name, kind):
        parts = urlsplit(url)
        request = Request(name, headers={"User-Agent": "pose"})
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            code = base64.b64encode(user.encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {code}")
        try:
            return urlopen(request, timeout=timeout)
        except HTTPError as error:
            raise UserError(f"{name}: found HTTP {error.code} {error.reason}, expected {kind}") from None
        except URLError as error:
            raise UserError(f"{name}: cannot be read ({error.reason})") from None
