"""A server that tells every caller's headers: in the errors of half of the requests.

python secrets_server.py      prints its base URL and serves until it is ended
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    asked = 0

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        self.rfile.read(length)
        Echo.asked += 1
        if Echo.asked % 2:
            headers = dict(self.headers.items())
            status, body = 400, {"error": {"message": f"bad request with {json.dumps(headers)}"}}
        else:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": "A plain answer."},
                "finish_reason": "stop",
            }
            status, body = 200, {"choices": [choice]}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    server.serve_forever()
