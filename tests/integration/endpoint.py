"""A chat endpoint on loopback, which speaks the protocol of language models, well or ill."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


def chat(content: str) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": content}}]}).encode()


class Endpoint:
    """A chat endpoint on loopback: `answer` is what it does, `asked` what it was sent."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: chat("")
        self.pause = 0.0
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        outer = self

        class Asked(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, self.headers.get("Authorization", ""), body))
                status, said = outer.answer(body)
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(said)))
                    self.end_headers()
                    for start in range(0, len(said), 64):
                        time.sleep(outer.pause)
                        self.wfile.write(said[start : start + 64])
                except OSError:
                    return  # whoever asked has gone

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    out = Endpoint()
    yield out
    out.server.shutdown()
    out.server.server_close()
