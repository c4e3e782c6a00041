"""What does an editor show for a file? Red Hat's YAML language server, asked over its standard input and output.

`npm ci` in this folder installs the server that `package-lock.json` names. Messages are JSON with a length in front
(the Language Server Protocol); a file is opened with the text to look at, so it need not exist on the disk.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SERVER = Path(__file__).parent / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
SETTINGS = {
    # No list of schemas from the web: only the one that the first line of a file names.
    "yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}},
}
SECONDS = 30.0


@dataclass(frozen=True)
class Diagnostic:
    """One squiggle: the line it begins on, counted from 1, and what it says."""

    line: int
    message: str


class LanguageServer:
    """A running server; the process ends with the `with` block."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            ["node", str(SERVER), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NODE_OPTIONS": "--max-old-space-size=512"},
        )
        self._root = root
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._last = 0
        self._version = 0
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {
                "publishDiagnostics": {},
                "hover": {"contentFormat": ["markdown"]},
                "completion": {"completionItem": {"documentationFormat": ["markdown"], "snippetSupport": True}},
            },
        }
        self._ask("initialize", {"processId": None, "rootUri": self._root.as_uri(), "capabilities": capabilities})
        self._tell("initialized", {})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def diagnostics(self, path: Path, text: str) -> list[Diagnostic]:
        """Return what the server finds in `text` as the content of `path`."""
        with self._opened(path, text) as found:
            return found

    def completions(self, path: Path, text: str, line: int, column: int) -> dict[str, str]:
        """Return the labels offered at a place (both counted from 1) and their documentation."""
        found = self._at("textDocument/completion", path, text, line, column)
        items = found["items"] if isinstance(found, dict) else found or []
        return {item["label"]: _words(item.get("documentation")) for item in items}

    def hover(self, path: Path, text: str, line: int, column: int) -> str:
        """Return what is shown over a place, both counted from 1."""
        found = self._at("textDocument/hover", path, text, line, column)
        return _words(found["contents"]) if found else ""

    def _at(self, method: str, path: Path, text: str, line: int, column: int) -> Any:
        with self._opened(path, text):
            where = {"line": line - 1, "character": column - 1}
            return self._ask(method, {"textDocument": {"uri": path.as_uri()}, "position": where})

    @contextmanager
    def _opened(self, path: Path, text: str) -> Iterator[list[Diagnostic]]:
        """Open a file, give what is found in it, and close it; that takes the squiggles away, which is awaited too."""
        self._version += 1  # the server keeps what it parsed by address and version
        document = {"uri": path.as_uri(), "languageId": "yaml", "version": self._version, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})
        yield self._published(path)
        self._tell("textDocument/didClose", {"textDocument": {"uri": path.as_uri()}})
        assert self._published(path) == []

    def _published(self, path: Path) -> list[Diagnostic]:
        def about(message: Mapping[str, Any]) -> bool:
            published = message.get("method") == "textDocument/publishDiagnostics"
            return published and message["params"]["uri"] == path.as_uri()

        found = self._await(about)["params"]["diagnostics"]
        return [Diagnostic(one["range"]["start"]["line"] + 1, one["message"]) for one in found]

    def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        self._last += 1
        number = self._last
        self._send({"id": number, "method": method, "params": params})
        answer = self._await(lambda message: message.get("id") == number and "method" not in message)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _tell(self, method: str, params: Mapping[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _await(self, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """Return the next message that is wanted; what the server itself asks meanwhile is answered."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                message = self._inbox.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"the language server said nothing for {SECONDS:.0f} s") from None
            assert message is not None, "the language server has ended: run `npm ci` in tests/editor"
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": self._reply(message)})
            elif wanted(message):
                return message

    def _reply(self, message: Mapping[str, Any]) -> Any:
        if message["method"] == "workspace/configuration":
            return [SETTINGS.get(item.get("section", "")) for item in message["params"]["items"]]
        return None

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := stream.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                header = stream.readline()
            self._inbox.put(json.loads(stream.read(length)))
        self._inbox.put(None)


def _words(documentation: Any) -> str:
    """Return the text of a documentation, which is a text or a block of Markdown."""
    return documentation.get("value", "") if isinstance(documentation, dict) else str(documentation or "")
