"""The little of W&B's server that a run needs, on this machine."""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Accepts runs, and keeps what they stream.

    Attributes:
        url: where it listens.
        lines: what was streamed, by file name.
        config: the newest run's configuration.
    """

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = defaultdict(list)
        self.config: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def body(self) -> bytes:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

            def answer(self) -> None:
                content = json.dumps(outer.answer_to(self.path, self.body())).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

        class Listener(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client that was killed is what tests want
                    super().handle_error(request, client_address)

        self._server = Listener(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer_to(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/graphql"):
            asked = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            return {"data": self.data_of(operation[1] if operation else "", asked.get("variables") or {})}
        if path.endswith("/file_stream"):
            for name, chunk in (json.loads(body).get("files") or {}).items():
                self.lines[name] += chunk["content"]
        return {"exitcode": None, "limits": {}}

    def data_of(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        if operation == "Viewer":
            return {"viewer": {"id": "1", "username": "u", "entity": "u", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            self.config = json.loads(given.get("config") or "{}")
            project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "u"}}
            bucket = {"id": "x", "name": given["name"], "config": "{}", "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/up/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}
        return {}

    def close(self) -> None:
        """Refuse every further connection."""
        self._server.shutdown()
        self._server.server_close()
