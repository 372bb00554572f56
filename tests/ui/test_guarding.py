"""Whose requests are answered."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from expunge.ui.guarding import COOKIE, LIMIT, Guard, is_loopback, same

TOKEN = "a-token-of-some-length"
POST = {"content-type": "application/json", "x-expunge": "page"}


def ask(guard: Guard, path: str = "/api/state", method: str = "GET", body: bytes = b"", query: str = "",
        **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request, straight through ASGI."""
    sent: list[MutableMapping[str, Any]] = []
    named = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {"type": "http", "path": path, "method": method, "query_string": query.encode(),
             "headers": [(name.encode(), value.encode()) for name, value in named.items() if value]}

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, b"".join(message.get("body", b"") for message in sent[1:])


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Reads its body whole, and says that it was reached."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"reached"})


@pytest.fixture
def here() -> Guard:
    return Guard(application, host="127.0.0.1")


@pytest.fixture
def abroad() -> Guard:
    return Guard(application, host="0.0.0.0", token=TOKEN)


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:7860", 200), ("localhost:7860", 200), ("[::1]:7860", 200), ("evil.example:7860", 421),
    ("127.0.0.1.evil.example", 421), ("192.168.0.7:7860", 421), ("localhost.evil.example", 421), ("", 421),
    ("[", 421), ("evil.example@127.0.0.1:1:2", 421)])
def test_a_name_that_was_made_to_point_here_is_refused(here: Guard, host: str, status: int) -> None:
    assert ask(here, host=host)[0] == status


def test_bound_abroad_bare_addresses_are_answered_and_names_of_others_are_not(abroad: Guard) -> None:
    assert ask(abroad, host="192.168.0.7:7860", authorization=f"Bearer {TOKEN}")[0] == 200
    assert ask(abroad, host="evil.example", authorization=f"Bearer {TOKEN}")[0] == 421


@pytest.mark.parametrize("given", [{}, {"query": "token=wrong"}, {"cookie": f"{COOKIE}=wrong"},
                                   {"authorization": f"Bearer {TOKEN}x"}, {"query": f"token={TOKEN[:-1]}"},
                                   {"cookie": "\x00;;=,"}, {"query": "token=%C3%BC"}])
def test_bound_abroad_nothing_is_answered_without_the_token(abroad: Guard, given: dict[str, str]) -> None:
    for path in ("/", "/app.js", "/api/state", "/picture/0"):
        assert ask(abroad, path, **given)[0] == 401
    assert ask(abroad, "/api/job", "POST", b"{}", **given, **POST)[0] == 401  # type: ignore[misc]


def test_the_token_becomes_a_cookie_that_other_sites_cannot_send(abroad: Guard) -> None:
    status, headers, _ = ask(abroad, "/", query=f"token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"] == f"{COOKIE}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert ask(abroad, cookie=f"other=1; {COOKIE}={TOKEN}")[0] == 200


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200), ({"origin": "http://127.0.0.1:7860"}, 200), ({"origin": "http://evil.example"}, 403),
    ({"origin": "null"}, 403), ({"origin": "http://127.0.0.1:9999"}, 403), ({"x_expunge": ""}, 403),
    ({"content_type": "text/plain"}, 415), ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ({"content_length": str(LIMIT + 1)}, 413), ({"content_length": "-1"}, 413), ({"content_length": "many"}, 413)])
def test_a_post_must_be_the_pages_own(here: Guard, headers: dict[str, str], status: int) -> None:
    every = {"content_type": "application/json", "x_expunge": "page", **headers}
    assert ask(here, "/api/job", "POST", b"{}", **every)[0] == status  # type: ignore[arg-type]


def test_a_body_that_is_longer_than_it_said_is_refused(here: Guard) -> None:
    assert ask(here, "/api/job", "POST", b"x" * (LIMIT + 1), content_length="2", content_type="application/json",
               x_expunge="page")[0] == 413
    assert ask(here, "/api/job", "POST", b"x" * LIMIT, content_type="application/json", x_expunge="page")[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused_so_nobody_may_ask_from_elsewhere(here: Guard, method: str) -> None:
    status, headers, _ = ask(here, method=method, origin="http://evil.example")
    assert status == 405
    assert not [name for name in headers if name.startswith("access-control")]


def test_other_sites_cannot_read_by_get_either(here: Guard) -> None:
    assert ask(here, sec_fetch_site="cross-site")[0] == 403
    assert ask(here, "/picture/0", sec_fetch_site="same-site")[0] == 403
    assert ask(here, sec_fetch_site="same-origin")[0] == 200


def test_every_answer_forbids_other_places(here: Guard) -> None:
    for status, headers, _ in (ask(here), ask(here, host="evil.example")):
        assert status in (200, 421)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_tokens_are_compared_whole() -> None:
    assert same("abc", "abc")
    assert not any(same(other, "abc") for other in ("", "ab", "abcd", "abd", "äbc"))


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True),
                                             ("127.9.9.9", True), ("0.0.0.0", False), ("::", False),
                                             ("192.168.0.1", False), ("example.org", False)])
def test_loopback_is_known(host: str, local: bool) -> None:
    assert is_loopback(host) is local
