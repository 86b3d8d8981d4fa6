"""A registry with one image: as much of the OCI distribution API as ``docker pull`` uses."""

import contextlib
import gzip
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(content: bytes) -> str:
    """``sha256:...``"""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def image(text: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The manifest and the blobs of an image with one file."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as files:
        member = tarfile.TarInfo("content")
        member.size = len(text)
        files.addfile(member, io.BytesIO(text))
    layer = gzip.compress(archive.getvalue(), mtime=0)
    root = {"type": "layers", "diff_ids": [digest(archive.getvalue())]}
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}
    ).encode()

    def described(kind: str, content: bytes) -> dict[str, object]:
        return {"mediaType": kind, "size": len(content), "digest": digest(content)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, config),
        "layers": [described(LAYER, layer)],
    }
    return json.dumps(manifest).encode(), {digest(config): config, digest(layer): layer}


class Registry:
    """What it serves under every name and tag can be changed by :meth:`push`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.push(b"first")

    def push(self, text: bytes) -> str:
        """Let the tags mean another image; returns its digest."""
        self.manifest, self.blobs = image(text)
        return digest(self.manifest)

    def get(self, path: str) -> tuple[int, str, bytes]:
        """Status, type and content."""
        if path == "/v2/":
            return 200, "application/json", b"{}"
        if "/manifests/" in path:
            return 200, MANIFEST, self.manifest
        content = self.blobs.get(path.rpartition("/")[2])
        return (404, "", b"") if content is None else (200, "application/octet-stream", content)


@contextlib.contextmanager
def serve(port: int) -> Iterator[Registry]:
    """A registry on loopback, which engines trust without TLS."""
    registry = Registry(port)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content = registry.get(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Docker-Content-Digest", digest(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
