"""The page's server: starlette routes over the plain classes, uvicorn around them. It has no logic of its own."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import resources
from typing import Any

from expunge import untrusted
from expunge.config import Settings
from expunge.errors import ConfigError, ExpungeError, UserError, install
from expunge.interrupts import obeyed
from expunge.ui.asked import Comparison, Edit, Kept, Said, Sample, Trial
from expunge.ui.attacking import attacking, attacks, keep, suggested
from expunge.ui.comparing import compare
from expunge.ui.erasing import erasing, estimate, methods
from expunge.ui.guarding import Guard, is_loopback
from expunge.ui.jobs import Busy, Job, Jobs, told
from expunge.ui.labelling import answer, begin
from expunge.ui.reports import POLICY, report, reports
from expunge.ui.served import Served
from expunge.ui.shown import Shown
from expunge.ui.sights import concepts, kin

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise UserError("the page needs starlette and uvicorn, which are not installed", remedy=install("ui")) from error

log = logging.getLogger(__name__)

FILES = {"page.html": "text/html; charset=utf-8", "app.js": "text/javascript; charset=utf-8",
         "style.css": "text/css; charset=utf-8"}
"""Files of the page, by name: no other is read."""
LONGEST_QUERY = 300
Call = Callable[[Mapping[str, Any]], Any]


class Page:
    """All that the page does, by the names of its requests."""

    def __init__(self, served: Served) -> None:
        self.served, self.jobs, self.shown = served, Jobs(), Shown()
        self._lists: dict[str, Any] = {}
        self._labels = threading.Lock()  # of one page; other pages wait by the lock in the folder

    def state(self) -> dict[str, Any]:
        """What the page shows when it is opened: all lists, and the last job of every action."""
        return {**self.served.about(), "methods": self._once("methods", methods),
                "attacks": self._once("attacks", attacks), "reports": reports(self.served),
                "concepts": self._once("concepts", lambda: concepts(self.served.world)),
                "guidance": self.served.model.guidance,
                "jobs": {action: job.seen() for action, job in self.jobs.last.items()}}

    def start(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a job."""
        action, given = body.get("action"), body.get("asked")
        if not isinstance(given, Mapping):
            raise ConfigError(f"asked {given!r}", accepted="settings of the action")
        if action == "compare":
            one = Comparison.build(given, "before and after")
            return self._begun("compare", "drawing", partial(compare, self.served, self.shown, one), one)
        if action in ("erase", "estimate"):
            edit = Edit.build(given, "erase")
            work = partial(erasing, self.served, self.shown, edit) if action == "erase" else \
                partial(estimate, self.served, edit)
            return self._begun(action, f"{'erasing' if action == 'erase' else 'estimating'} {edit.concept}", work, edit)
        if action == "attack":
            trial = Trial.build(given, "attack")
            return self._begun("attack", "attacking", partial(attacking, self.served, self.shown, trial), trial)
        raise ConfigError(f"the action {action!r}", accepted="compare, erase, estimate, attack")

    def job(self, action: str, after: int) -> dict[str, Any]:
        """How far the last job of an action is."""
        job = self.jobs.last.get(action)
        if job is None:
            raise UserError(f"no job {action!r} yet", accepted=", ".join(self.jobs.last) or "none yet")
        return job.seen(after)

    def stop(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Stop the job that runs."""
        job = self.jobs.stop()
        return {"stopping": job is not None}

    def keep(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a find."""
        return keep(self.served, self.jobs, Kept.build(body, "case"))

    def sheet(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to label."""
        asked = Sample.build(body, "label")
        with self._labels:
            return begin(self.served, self.shown, asked)

    def said(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One answer of whoever labels."""
        said = Said.build(body, "label")
        with self._labels:
            return answer(self.served, said)

    def wordings(self, patch: str) -> list[dict[str, Any]]:
        """Prompts to try on a patch."""
        return suggested(self.served, patch)

    def kin(self, concept: str) -> list[str]:
        """Things like a concept."""
        return kin(self.served.world, concept)

    def _begun(self, action: str, title: str, work: Callable[[Job], Mapping[str, Any]], asked: Settings
               ) -> dict[str, Any]:
        return self.jobs.start(action, title, work, asked.model_dump(mode="json")).seen()

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._lists:
            self._lists[name] = make()
        return self._lists[name]


def application(page: Page, *, host: str = "127.0.0.1", token: str = "") -> Guard:
    """The page as an ASGI application, behind its guard."""
    posts: dict[str, Call] = {"job": page.start, "stop": page.stop, "case": page.keep, "label": page.sheet,
                              "answer": page.said}
    routes = [
        Route("/", _file("page.html")),
        *(Route(f"/{name}", _file(name)) for name in FILES if name != "page.html"),
        Route("/api/state", _got(lambda query: page.state())),
        Route("/api/job/{action}", _got(lambda query: page.job(query["action"], _number(query.get("after", "0"))))),
        Route("/api/wordings", _got(lambda query: page.wordings(query.get("patch", "")))),
        Route("/api/kin", _got(lambda query: page.kin(query.get("concept", "")))),
        *(Route(f"/api/{name}", _posted(call), methods=["POST"]) for name, call in posts.items()),
        Route("/picture/{digest}", _picture(page)),
        Route("/report", _report(page)),
    ]
    starlette = Starlette(routes=routes)
    starlette.router.redirect_slashes = False
    return Guard(starlette, host=host, token=token)


def _file(name: str) -> Callable[[Request], Response]:
    data = resources.files("expunge.ui").joinpath("static").joinpath(name).read_bytes()
    return lambda request: Response(data, media_type=FILES[name])


def _got(call: Callable[[Mapping[str, str]], Any]) -> Callable[[Request], Response]:
    """A GET: path and query become a call."""
    def respond(request: Request) -> Response:
        query = {**dict(request.query_params), **request.path_params}
        if any(len(value) > LONGEST_QUERY for value in query.values()):
            return _failed(ConfigError("a name that is too long", accepted=f"{LONGEST_QUERY} letters"))
        return _answered(partial(call, query))

    return respond


def _posted(call: Call) -> Callable[[Request], Any]:
    """A POST: its JSON object becomes a call, in a thread of its own."""
    async def respond(request: Request) -> Response:
        data = await request.body()
        try:
            body = untrusted.json_in(data)
        except (ValueError, RecursionError):
            return _failed(ConfigError("a body that is no JSON", accepted="a JSON object"))
        if not isinstance(body, dict):
            return _failed(ConfigError("a body that is no object", accepted="a JSON object"))
        return await run_in_threadpool(_answered, partial(call, body))

    return respond


def _answered(call: Callable[[], Any]) -> Response:
    try:
        return JSONResponse(call())
    except ExpungeError as error:
        return _failed(error)


def _failed(error: ExpungeError) -> Response:
    return JSONResponse({"error": told(error)}, 409 if isinstance(error, Busy) else
                        400 if isinstance(error, UserError) else 500)


def _picture(page: Page) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        data = page.shown.get(request.path_params["digest"])
        if data is None:
            return Response("no such picture", 404, media_type="text/plain")
        return Response(data, media_type="image/png", headers={"cache-control": "private, max-age=3600, immutable"})

    return respond


def _report(page: Page) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        try:
            return HTMLResponse(report(page.served, request.query_params.get("run", "")),
                                headers={"content-security-policy": POLICY})
        except UserError as error:
            return Response(str(error), 404, media_type="text/plain; charset=utf-8")

    return respond


def _number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 10 else 0


@contextmanager
def serving(page: Page, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> Iterator[str]:
    """Inside, the page is served by a thread; yields its address. Afterwards jobs have stopped.

    Raises:
        UserError: the address cannot be bound, or is no loopback address and there is no token.
    """
    server, listening, address = _server(page, host, port, token)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="page", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield address
    finally:
        server.should_exit = True
        page.jobs.stop()
        page.jobs.wait(60)
        thread.join(10)
        listening.close()


def serve(page: Page, *, host: str, port: int, token: str, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is told the address once it is bound. Raises: as `serving`."""
    server, listening, address = _server(page, host, port, token)
    ready(address)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:  # uvicorn hands on the one that ended it
        obeyed()
    finally:
        page.jobs.stop()
        page.jobs.wait(60)
        listening.close()


def _server(page: Page, host: str, port: int, token: str) -> tuple[uvicorn.Server, socket.socket, str]:
    if not is_loopback(host) and not token:
        raise UserError(f"the address {host} without a token", accepted="a loopback address, or a token with it")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), port))
        listening.listen(128)  # whoever is told the address may come at once
    except OSError as error:
        listening.close()
        raise UserError(f"the address {host}:{port} cannot be bound: {error.strerror or error}",
                        accepted="a free port of this machine", remedy="choose another --port; 0 takes a free one"
                        ) from error
    config = uvicorn.Config(application(page, host=host, token=token), log_level="warning", access_log=False,
                            server_header=False, proxy_headers=False, timeout_graceful_shutdown=2, ws="none")
    shown = f"[{host.strip('[]')}]" if ":" in host else host
    return uvicorn.Server(config), listening, f"http://{shown}:{listening.getsockname()[1]}/"
