"""The server over HTTP: routes, errors, refusals."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from expunge.errors import UserError
from expunge.ui.guarding import LIMIT
from expunge.ui.served import Served
from expunge.ui.server import FILES, Page, serving

TOKEN = "a-token-of-some-length"


@pytest.fixture
def page(sides: Served) -> Page:
    return Page(sides)


@pytest.fixture
def address(page: Page) -> Iterator[str]:
    with serving(page) as url:
        yield url


def get(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, headers=headers), timeout=60) as got:
            return got.status, got.read()
    except HTTPError as error:
        return error.code, error.read()


def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    every = {"Content-Type": "application/json", "X-Expunge": "page", **headers}
    try:
        with urlopen(Request(url, data=data, headers=every), timeout=60) as got:
            return got.status, json.loads(got.read())
    except HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text.decode()


def test_the_page_and_its_lists_are_served(address: str) -> None:
    for name in ("", "app.js", "style.css"):
        status, body = get(address + name)
        assert status == 200
        assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")  # nothing from elsewhere
        assert b"https://" not in body
    state = json.loads(get(f"{address}api/state")[1])
    assert [patch["name"] for patch in state["patches"]] == ["church"]
    assert state["concepts"] == ["church", "house", "dog"]
    assert json.loads(get(f"{address}api/kin?concept=church")[1]) == ["house", "dog"]
    assert [group["title"] for group in json.loads(get(f"{address}api/wordings?patch=church")[1])]


@pytest.mark.parametrize("path", ["page.html", "../jobs.py", "static/app.js", "%2e%2e/jobs.py", "..%2f..%2fcli/ui.py",
                                  "picture/../../secret", "picture/%2e%2e%2fsecret", "app.js/", "api/", "api/job/none",
                                  "report?run=../../x", "report?run=church", "api/job/compare?after=-1"])
def test_nothing_else_is_read(address: str, path: str) -> None:
    status, body = get(address + path)
    assert status in (400, 404)
    assert b"from __future__" not in body


@pytest.mark.parametrize("path", ["api/wordings?patch=../../etc", f"api/kin?concept={'x' * 400}"])
def test_names_that_are_not_there_or_too_long_are_told(address: str, path: str) -> None:
    status, body = get(address + path)
    assert status == 400
    assert json.loads(body)["error"]["got"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 30_000, b'"text"', {"action": "format"},
                                  {"action": "compare"},
                                  {"action": "compare", "asked": {"patch": "church"}},
                                  {"action": "erase", "asked": {"concept": "church", "out": "/etc"}},
                                  {"action": "compare", "asked": {"patch": "../x", "prompt": 7}}])
def test_what_makes_no_sense_is_refused_and_starts_nothing(page: Page, address: str, body: Any) -> None:
    status, said = post(f"{address}api/job", body)
    assert status == 400
    assert said["error"]["got"]
    assert page.jobs.current is None


def test_a_large_body_is_refused(address: str) -> None:
    assert post(f"{address}api/job", b"x" * (LIMIT + 1))[0] == 413


def test_a_chunked_body_that_grows_is_refused(address: str) -> None:
    host, port = address.removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(f"POST /api/job HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                     "X-Expunge: page\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        for _ in range(6):
            line.sendall(piece)
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_other_sites_get_nothing(address: str) -> None:
    assert post(f"{address}api/stop", {}, Origin="http://evil.example")[0] == 403
    assert get(f"{address}api/state", Host="evil.example")[0] == 421
    assert post(f"{address}api/stop", {}, **{"Content-Type": "text/plain"})[0] == 415


def test_a_second_job_is_told_to_wait_and_stop_makes_room(page: Page, address: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(job: Any) -> dict[str, Any]:
        begun.set()
        while not go.wait(0.01):
            job.check()
        return {}

    page.jobs.start("erase", "waiting", wait)
    assert begun.wait(10)
    asked = {"action": "compare", "asked": {"patch": "church", "prompt": "a church", "count": 1, "steps": 1}}
    status, said = post(f"{address}api/job", asked)
    assert (status, said["error"]["got"]) == (409, "waiting is still running")
    assert post(f"{address}api/stop", {}) == (200, {"stopping": True})
    page.jobs.wait(10)
    assert json.loads(get(f"{address}api/job/erase")[1])["state"] == "stopped"
    assert post(f"{address}api/job", asked)[0] == 200
    page.jobs.wait(60)
    done = json.loads(get(f"{address}api/job/compare")[1])
    assert done["state"] == "done"
    picture = done["result"]["rows"][0]["edited"]["picture"]
    status, body = get(f"{address}picture/{picture}")
    assert status == 200
    assert body.startswith(b"\x89PNG")


def test_answers_that_come_at_once_are_all_kept(sides: Served, sides_model: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from colour_world import SMALL
    from sides_world import sides_world

    from expunge.evaluation import evaluate
    from expunge.records.stored import LABELS

    folder = sides.root / "church" / "evaluation"
    evaluate(sides_model, sides.patch("church"), settings=SMALL, out=folder, world=sides_world())
    page, asked = Page(sides), {"run": "church/evaluation", "person": "AB", "count": 8}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda place: page.said({**asked, "place": place, "answer": "yes"}), range(8)))
    mine, = LABELS.read(folder).people
    assert [label.answer for label in mine.labels] == ["yes"] * 8


def test_bound_elsewhere_it_needs_a_token(page: Page) -> None:
    with pytest.raises(UserError, match="without a token"), serving(page, host="0.0.0.0"):
        pass
    with serving(page, host="0.0.0.0", token=TOKEN) as url:
        here = url.replace("0.0.0.0", "127.0.0.1")
        assert get(f"{here}api/state")[0] == 401
        assert get(f"{here}api/state", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_port_that_is_taken_is_told(page: Page, address: str) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match="cannot be bound"), serving(page, port=port):
        pass


def test_all_files_of_the_page_come_with_the_package() -> None:
    from importlib import resources

    there = {file.name for file in resources.files("expunge.ui").joinpath("static").iterdir()}
    assert there == set(FILES)
