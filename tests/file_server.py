"""A web server of one file, with the faults that servers have."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `content` at every address; the attributes are its faults."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.modified = content, '"one"', None
        self.ranges = self.lengths = self.if_ranges = True
        self.kind = "application/octet-stream"
        self.drops = []  # bytes after which the next connections end
        self.answers = []  # statuses of the next answers
        self.moved = None
        self.seen = []  # (method, path, Range, If-Range, status)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of these tests."""

    def gets(self):
        return [(span, status) for method, _, span, _, status in self.seen if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def asked(self):
        """Status of the answer, first byte."""
        server, span = self.server, self.headers.get("Range")
        if server.answers or server.moved:
            return server.answers.pop(0) if server.answers else 302, 0
        mark = server.etag or server.modified
        same = not server.if_ranges or self.headers.get("If-Range", mark) == mark
        if not (span and server.ranges and same):
            return 200, 0
        start = int(span.removeprefix("bytes=").removesuffix("-"))
        return 206 if start < len(server.content) else 416, start

    def answer(self, body):
        server, size = self.server, len(self.server.content)
        status, start = self.asked()
        server.seen.append((self.command, self.path, self.headers.get("Range"), self.headers.get("If-Range"), status))
        self.send_response(status)
        headers = {"ETag": server.etag, "Last-Modified": server.modified, "Content-Type": server.kind}
        headers["Location"] = server.moved
        data = server.content[start:] if status in (200, 206) else b""
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        elif status == 416:
            headers["Content-Range"] = f"bytes */{size}"
        headers["Content-Length"] = str(len(data)) if server.lengths else None
        headers["Connection"] = "close"
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[: server.drops.pop(0)] if server.drops else data)
