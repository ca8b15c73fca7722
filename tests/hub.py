"""A server on loopback that speaks the Hub's protocol, as far as the real client uses it.

Small files are git blobs, named by git's SHA-1 and served where they are asked for. Safetensors
are large files, named by SHA-256; they are served from another address (another host name, like
the Hub's storage), to which no token may go.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

WRITER, READER = "hf_writer", "hf_reader"
REPO = "climdown/era5-zssd"
PIECE = 16 * 1024
_PATIENCE = 60.0


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[LoopbackHub]:
    """A server that is the Hub for this process and its children, with a cache of its own."""
    close_session()
    hub = LoopbackHub()
    for name in ("HF_TOKEN", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, value)
    # The library reads its environment once, when it is imported.
    # What was logged to is closed with the test that opened it.
    monkeypatch.setattr(logging.getLogger("climdown"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("climdown"), "propagate", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "stored_tokens"))
    try:
        yield hub
    finally:
        hub.close()
        close_session()


def write_named_prior(folder: Path, source: Path, name: str = "era5-zssd") -> Path:
    """A copy of a prior under another name."""
    shutil.copytree(source, folder)
    card = folder / "card.json"
    entries = json.loads(card.read_text(encoding="utf-8")) | {"name": name}
    card.write_text(json.dumps(entries), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Repository:
    """Commits by hash, each a mapping of paths to contents, and the branches and tags."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit to a branch."""
        text = f"{len(self.commits)} {sorted(files)} {sorted(map(git_digest, files.values()))}"
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = files
        self.refs[ref] = commit
        return commit

    def files(self, revision: str) -> dict[str, bytes] | None:
        """The files at a branch, tag or commit."""
        return self.commits.get(self.refs.get(revision, revision))


@dataclass
class Hold:
    """Stops the sending of a content after some bytes until it is let go."""

    name: str
    after: int
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


Fault = Callable[[Request], tuple[int, dict[str, str]] | None]


class LoopbackHub:
    """The server: its repositories, what it was asked, and what goes wrong with it.

    Attributes:
        log: every request, oldest first.
        faults: asked in turn before each answer; one that gives (status, headers) is the answer.
        corrupt: names of files that are sent with a bit flipped, and how often.
        endless: names of files that are sent with more than was announced.
        no_ranges: send contents whole, whatever was asked for.
        no_sizes: do not say how long a content is: it lasts as long as the connection.
        cut: names of files that are sent only so far before the connection breaks, once each.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.corrupt: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.endless: set[str] = set()
        self.no_ranges = False
        self.no_sizes = False
        self.holds: list[Hold] = []
        self.uploaded: dict[str, bytes] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.storage = f"http://localhost:{port}"

    def close(self) -> None:
        """Stop serving."""
        for hold in self.holds:
            hold.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def publish(self, repo_id: str, folder: Path, *, ref: str = "main") -> str:
        """Commit all files of a folder; gives the commit."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return self.repositories.setdefault(repo_id, Repository()).commit(files, ref)

    def asked(self, method: str, ending: str = "") -> list[Request]:
        """Requests of a method whose path ends so."""
        return [r for r in list(self.log) if r.method == method and r.path.endswith(ending)]

    def gets(self, name: str) -> list[Request]:
        """Requests for the content of a file, wherever it was served."""
        versions = {
            files[name]
            for repository in self.repositories.values()
            for files in repository.commits.values()
            if name in files
        }
        digests = tuple(f"/storage/{digest(content)}" for content in versions)
        endings = digests if is_large(name) else (f"/{name}",)
        return [r for r in self.asked("GET") if r.path.endswith(endings)]

    @contextmanager
    def failing(self, status: int, path: str = "", **headers: str) -> Iterator[None]:
        """Answer so to requests whose path holds `path`."""

        def fault(request: Request) -> tuple[int, dict[str, str]] | None:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            return (status, named) if path in request.path else None

        self.faults.append(fault)
        try:
            yield
        finally:
            self.faults.remove(fault)

    def hold(self, name: str, after: int) -> Hold:
        """Stop sending a file after so many bytes, once."""
        hold = Hold(name, after)
        self.holds.append(hold)
        return hold


def git_digest(content: bytes) -> str:
    """SHA-1 of a git blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def digest(content: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(content).hexdigest()


def is_large(path: str) -> bool:
    """Whether the Hub stores a file apart from git."""
    return path.endswith(".safetensors")


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed are no news."""


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silence."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        request = Request(self.command, path, {k.lower(): v for k, v in self.headers.items()})
        self.hub.log.append(request)
        for fault in list(self.hub.faults):
            if (answer := fault(request)) is not None:
                self._answer(answer[0], headers=answer[1])
                return
        if not self._token_is_known():
            message = "Invalid credentials in Authorization header"
            self._answer(401, headers={"X-Error-Message": message})
            return
        for pattern, serve in _ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                serve(self, *match.groups())
                return
        self._answer(404)

    # --- answers

    def _answer(
        self, status: int, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """A content or the rest of it, as far as nothing is said to go wrong."""
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and not self.hub.no_ranges:
            start = int(wanted[1])
        if start and start >= len(content):
            self._answer(416)
            return
        if self.hub.corrupt.get(name, 0) > 0:
            self.hub.corrupt[name] -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        if name in self.hub.endless:
            content += bytes(10 * PIECE)
        self.send_response(206 if start else 200)
        for key, value in headers.items():
            self.send_header(key, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.hub.no_sizes:
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self._write(name, content, start)

    def _write(self, name: str, content: bytes, start: int) -> None:
        cut = self.hub.cut.pop(name, None)
        waiting = (h for h in self.hub.holds if h.name == name and not h.reached.is_set())
        hold = next(waiting, None)
        stops = sorted({*range(start, len(content), PIECE), len(content)})
        if hold is not None:
            stops = sorted({*stops, min(hold.after, len(content))})
        try:
            for begin, end in pairwise(stops):
                if hold is not None and begin == hold.after:
                    hold.reached.set()
                    hold.released.wait(_PATIENCE)
                if cut is not None and end > cut:
                    self.wfile.write(content[begin:cut])
                    self.close_connection = True
                    return
                self.wfile.write(content[begin:end])
        except OSError:  # the client is gone
            self.close_connection = True

    # --- who may do what

    def _token(self) -> str | None:
        text = self.headers.get("Authorization")
        return None if text is None else text.removeprefix("Bearer ")

    def _token_is_known(self) -> bool:
        return self._token() in (None, READER, WRITER)

    def _may_write(self) -> bool:
        if self._token() == WRITER:
            return True
        self._answer(401 if self._token() is None else 403, {"error": "you must not write"})
        return False

    def _repository(self, repo_id: str) -> Repository | None:
        found = self.hub.repositories.get(repo_id)
        if found is None or (found.private and self._token() is None):
            # The Hub does not tell strangers whether a repository is private or not there.
            status = 401 if self._token() is None else 404
            self._answer(status, headers={"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def _files(self, repo_id: str, revision: str) -> dict[str, bytes] | None:
        repository = self._repository(repo_id)
        if repository is None:
            return None
        files = repository.files(revision)
        if files is None:
            self._answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        return files

    # --- reading

    def resolve(self, repo_id: str, revision: str, name: str) -> None:
        files = self._files(repo_id, revision)
        if files is None:
            return
        commit = self.hub.repositories[repo_id].refs.get(revision, revision)
        headers = {"X-Repo-Commit": commit}
        if name not in files:
            self._answer(404, headers={**headers, "X-Error-Code": "EntryNotFound"})
            return
        content = files[name]
        if is_large(name):
            found = digest(content)
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{found}"'}
            headers["Location"] = f"{self.hub.storage}/storage/{found}"
            self._answer(302, headers=headers)
            return
        headers["ETag"] = f'"{git_digest(content)}"'
        if self.command == "HEAD":
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
        else:
            self._send(name, content, headers)

    def storage(self, wanted: str) -> None:
        for repository in self.hub.repositories.values():
            for files in repository.commits.values():
                for name, content in files.items():
                    if digest(content) == wanted:
                        self._send(name, content, {"ETag": f'"{wanted}"'})
                        return
        self._answer(404)

    def info(self, repo_id: str, revision: str | None = None) -> None:
        revision = revision or "main"
        files = self._files(repo_id, revision)
        if files is not None:
            repository = self.hub.repositories[repo_id]
            names = [{"rfilename": name} for name in files]
            commit = repository.refs.get(revision, revision)
            entry = {"id": repo_id, "sha": commit, "private": repository.private}
            self._answer(200, {**entry, "tags": [], "siblings": names})

    def tree(self, repo_id: str, revision: str) -> None:
        files = self._files(repo_id, revision)
        if files is not None:
            entries = []
            for name, content in files.items():
                entry = {"type": "file", "path": name, "size": len(content)}
                entry["oid"] = git_digest(content)
                if is_large(name):
                    entry["lfs"] = {
                        "oid": digest(content), "size": len(content), "pointerSize": 134,
                    }  # fmt: skip
                entries.append(entry)
            self._answer(200, entries)

    def refs(self, repo_id: str) -> None:
        repository = self._repository(repo_id)
        if repository is not None:
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
                for name, commit in repository.refs.items()
            ]
            self._answer(200, {"branches": branches, "tags": [], "converts": []})

    # --- writing

    def create(self) -> None:
        if not self._may_write():
            return
        entry = json.loads(self.body)
        repo_id = f"{entry['organization']}/{entry['name']}"
        url = {"url": f"{self.hub.url}/{repo_id}", "id": repo_id}
        if repo_id in self.hub.repositories:
            self._answer(409, {"error": "You already created this model repo", **url})
            return
        private = entry.get("private") is True or entry.get("visibility") == "private"
        self.hub.repositories[repo_id] = Repository(private=private)
        self.hub.repositories[repo_id].commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._answer(200, url)

    def branch(self, repo_id: str, name: str) -> None:
        repository = self._repository(repo_id)
        if repository is not None and self._may_write():
            status = 409 if name in repository.refs else 200
            repository.refs.setdefault(name, repository.refs["main"])
            self._answer(status, {})

    def validate(self) -> None:
        """As strict as the Hub is with what the prior's card needs."""
        content = json.loads(self.body)["content"]
        head = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        keys = re.findall(r"^(\w+):", head[1], re.MULTILINE) if head else []
        missing = {"license", "library_name", "tags"} - set(keys)
        errors = [{"message": f'"{key}" is required'} for key in sorted(missing)]
        self._answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def preupload(self, repo_id: str, revision: str) -> None:
        files = self._files(repo_id, revision)
        if files is None or not self._may_write():
            return
        answers = []
        for entry in json.loads(self.body)["files"]:
            name, old = entry["path"], files.get(entry["path"])
            answer = {"path": name, "shouldIgnore": False}
            answer["uploadMode"] = "lfs" if is_large(name) else "regular"
            if old is not None:
                answer["oid"] = digest(old) if is_large(name) else git_digest(old)
            answers.append(answer)
        self._answer(200, {"files": answers})

    def batch(self, repo_id: str) -> None:
        if self._repository(repo_id) is None or not self._may_write():
            return
        objects = []
        for entry in json.loads(self.body)["objects"]:
            if entry["oid"] in self.hub.uploaded:
                objects.append(entry)
                continue
            action = {"href": f"{self.hub.storage}/upload/{entry['oid']}", "header": {}}
            objects.append({**entry, "actions": {"upload": action}})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, wanted: str) -> None:
        if digest(self.body) == wanted:
            self.hub.uploaded[wanted] = self.body
            self._answer(200)
        else:
            self._answer(400, {"error": "another hash"})

    def commit(self, repo_id: str, revision: str) -> None:
        files = self._files(repo_id, revision)
        if files is None or not self._may_write():
            return
        files = dict(files)
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
        commit = self.hub.repositories[repo_id].commit(files, revision)
        url = f"{self.hub.url}/{repo_id}/commit/{commit}"
        self._answer(200, {"commitUrl": url, "commitOid": commit})


_REPO = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (rf"(?:GET|HEAD) /{_REPO}/resolve/(.+)/([^/]+)", _Handler.resolve),
    (r"GET /storage/(\w+)", _Handler.storage),
    (rf"GET /api/models/{_REPO}", _Handler.info),
    (rf"GET /api/models/{_REPO}/revision/(.+)", _Handler.info),
    (rf"GET /api/models/{_REPO}/tree/(.+)", _Handler.tree),
    (rf"GET /api/models/{_REPO}/refs", _Handler.refs),
    (r"POST /api/repos/create", _Handler.create),
    (rf"POST /api/models/{_REPO}/branch/(.+)", _Handler.branch),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{_REPO}/preupload/(.+)", _Handler.preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /upload/(\w+)", _Handler.upload),
    (rf"POST /api/models/{_REPO}/commit/(.+)", _Handler.commit),
]
