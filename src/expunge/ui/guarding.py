"""What stands before the page: whose requests are answered, and how large they may be.

| against | what is asked |
| --- | --- |
| names that point here by trick (DNS rebinding) | the Host header is this machine's, or a bare address |
| other sites in the same browser | no CORS; a POST is JSON of this very origin, with a header that forms cannot send |
| others in the network | a token, where the page is bound to more than this machine; compared in constant time |
| large requests | `LIMIT` bytes, by the header and by what really comes |
| what a page could load or be framed by | a content security policy without any other place |

It is a plain ASGI application around another one.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LIMIT = 64 * 1024
"""Bytes of a request's body."""
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)
TOO_LARGE = f"A request may have {LIMIT // 1024} KiB."
COOKIE = "expunge_token"
HEADER = "x-expunge"
"""What every POST of the page carries: other sites cannot send it without asking, and nobody answers."""
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
          "frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY",
           "cross-origin-resource-policy": "same-origin", "cross-origin-opener-policy": "same-origin",
           "content-security-policy": POLICY, "cache-control": "no-store"}
"""On every answer that does not say otherwise itself."""


class Guard:
    """An application behind these rules."""

    def __init__(self, app: App, *, host: str, token: str = "") -> None:
        """`host`: the address that is listened at. `token`: what requests must carry; "" asks for none."""
        self._app, self._token = app, token
        self._open = not is_loopback(host)
        own = {host.strip("[]").lower()}
        self._names = own | ({"localhost"} if not self._open else {socket.gethostname().lower()})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page opens nothing else
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            if refused[0] != 413:
                await _body(receive)  # who is refused while still sending sees a broken connection, and no reason
            await _answer(send, *refused)
            return
        if self._token and (scope["path"], scope["method"]) == ("/", "GET") and _asked_token(scope):
            cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})
            return
        body = await _body(receive) if scope["method"] == "POST" else b""
        if body is None:
            await _answer(send, 413, TOO_LARGE)
            return
        await self._app(scope, _given(body, receive), _with_headers(send))

    def _refused(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and words of a request that gets no further; None of one that does."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 421, "This page answers only under its own address."
        if self._token and not self._has_token(scope, headers):
            return 401, "This page needs the token that was printed when it was started: open it with ?token=..."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "Only GET and POST."
        if scope["method"] == "POST":
            origin = headers.get("origin", "")
            if (origin and urlsplit(origin).netloc.lower() != host.lower()) or HEADER not in headers:
                return 403, "Only the page itself may ask for this."
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return 415, "Only JSON."
        elif headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["path"] != "/":
            return 403, "Only the page itself may ask for this."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > LIMIT:
            return 413, TOO_LARGE
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine: a rebound name is always a name, and never one of ours."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._open or address.is_loopback

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        given = [_asked_token(scope), headers.get("authorization", "").removeprefix("Bearer ")]
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            found = None
        given += [found.value] if found is not None else []
        return [same(one, self._token) for one in given].count(True) > 0  # every one is compared


def same(given: str, token: str) -> bool:
    """Whether two tokens are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(given.encode(), token.encode())


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _asked_token(scope: Scope) -> str:
    query: bytes = scope.get("query_string", b"")
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


async def _body(receive: Receive) -> bytes | None:
    """All of a request's body, whatever length it said; None once it is over the limit."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message["type"] == "http.request" and bool(message.get("more_body", False))
        if len(body) > LIMIT:
            return None
    return body


def _given(body: bytes, receive: Receive) -> Receive:
    """Receive, which begins with a body that was read already."""
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def dressed(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            there = {name.decode("latin-1").lower() for name, _ in message.get("headers", [])}
            message["headers"] = [*message.get("headers", []), *(
                (name.encode(), value.encode()) for name, value in HEADERS.items() if name not in there)]
        await send(message)

    return dressed


async def _answer(send: Send, status: int, words: str, headers: dict[str, str] | None = None) -> None:
    every = {**HEADERS, "content-type": "text/plain; charset=utf-8", **(headers or {})}
    await send({"type": "http.response.start", "status": status,
                "headers": [(name.encode(), value.encode()) for name, value in every.items()]})
    await send({"type": "http.response.body", "body": words.encode()})
