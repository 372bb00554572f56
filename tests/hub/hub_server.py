"""A stand-in for the Hub's HTTP API on this machine: as much of it as huggingface_hub asks for small files."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """What the server knows. Attributes: private, by repository; commits, by repository: (parameters, header, files);
    revisions, by repository: files by revision; asked: every request."""

    def __init__(self) -> None:
        self.url = ""
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[tuple[str, dict[str, str], dict[str, bytes]]]] = {}
        self.revisions: dict[str, dict[str, dict[str, bytes]]] = {}
        self.asked: list[tuple[str, str]] = []

    def commit_of(self, repo: str, revision: str) -> str:
        return sha1(f"{repo}{revision}".encode()).hexdigest()

    def files(self, repo: str, revision: str) -> dict[str, bytes] | None:
        known = self.revisions.get(repo, {})
        named = {**known, **{self.commit_of(repo, name): files for name, files in known.items()}}
        return named.get(revision)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((method, path))
        place, _, query = path.partition("?")
        if place == "/api/repos/create":
            said = json.loads(body)
            repo = f"{said['organization']}/{said['name']}"
            if repo in self.private:
                return 409, {}, json.dumps({"url": f"{self.url}/{repo}"}).encode()
            self.private[repo] = said["visibility"] == "private"
            self.revisions[repo] = {"main": {}}
            return _json({"url": f"{self.url}/{repo}", "id": repo})
        if place == "/api/validate-yaml":
            return _json({"errors": [], "warnings": []})
        parts = place.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._model("/".join(parts[2:4]), parts[4:], query, body)
        if len(parts) > 4 and parts[2] == "resolve":
            files = self.files("/".join(parts[:2]), parts[3]) or {}
            content = files.get("/".join(parts[4:]))
            if content is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            commit = parts[3] if len(parts[3]) == 40 else self.commit_of("/".join(parts[:2]), parts[3])
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{sha256(content).hexdigest()}"'}, content
        return 404, {}, b"{}"

    def _model(self, repo: str, rest: list[str], query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if repo not in self.private:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        kind, revision = (rest[0], rest[1]) if rest else ("info", "main")
        if kind == "preupload":
            return _json({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                    for one in json.loads(body)["files"]]})
        if kind == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines
                     if line["key"] == "file"}
            self.commits.setdefault(repo, []).append((query, lines[0]["value"], files))
            if "create_pr" not in query:
                self.revisions[repo].setdefault(revision, {}).update(files)
            return _json({"success": True, "commitOid": self.commit_of(repo, revision),
                          "commitUrl": f"{self.url}/{repo}/commit/{self.commit_of(repo, revision)}",
                          "pullRequestUrl": f"{self.url}/{repo}/discussions/1" if "create_pr" in query else None})
        found = self.files(repo, revision)
        if found is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        if kind == "tree":
            return _json([{"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest()}
                          for name, content in found.items()])
        commit = revision if len(revision) == 40 else self.commit_of(repo, revision)
        return _json({"id": repo, "private": self.private[repo], "sha": commit,
                      "siblings": [{"rfilename": name} for name in found]})


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def running() -> Iterator[Hub]:
    """A server on a free port of the loopback."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _go(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = hub.answer(self.command, self.path, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_HEAD = _go

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
