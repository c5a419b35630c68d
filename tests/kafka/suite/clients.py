"""Client processes and the broker's process, started and ended by id."""

import base64
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
MADE = ROOT / "target" / "kafka"
BIN = Path(os.environ.get("MILLSTREAM_BIN", ROOT / "target" / "debug" / "millstream"))
RUST_DRIVER = BIN.parent / "millstream-kafka-driver"
PYTHON = MADE / "venv" / "bin" / "python"

COMMANDS = {
    "kafkajs": ["node", HERE / "drivers" / "kafkajs.js"],
    "confluent-kafka": [PYTHON, HERE / "drivers" / "confluent.py"],
    "kafka-python": [PYTHON, HERE / "drivers" / "kafka_python.py"],
    "aiokafka": [PYTHON, HERE / "drivers" / "aiokafka_driver.py"],
    "kcat": [PYTHON, HERE / "drivers" / "kcat.py"],
    "rdkafka": [RUST_DRIVER, "rdkafka"],
    "millstream": [RUST_DRIVER, "millstream"],
}
KAFKA_CLIENTS = [name for name in COMMANDS if name != "millstream"]
ANSWER_S = 120
# Members of a new group wait 3 s for others, and a dead one is waited for at least 6 s: right for services, long for
# hundreds of groups.
QUICK_GROUPS = {
    "kafka__group__initial__rebalance__delay__ms": 300,
    "kafka__group__min__session__timeout__ms": 2000,
}


class Unsupported(Exception):
    """The client cannot do this; not the broker's fault."""


class Refused(Exception):
    """What the client raised."""


def encode(data):
    return None if data is None else base64.b64encode(data).decode()


def decode(text):
    return None if text is None else base64.b64decode(text)


class Client:
    """One driver process."""

    def __init__(self, name, server):
        self.name = name
        environment = {**os.environ, "NODE_PATH": str(MADE / "js" / "node_modules"), "PYTHONWARNINGS": "ignore"}
        environment["MILLSTREAM_DATA"] = str(MADE / "data" / "main")
        log = open(MADE / "log" / f"{name}.log", "ab")
        command = [str(part) for part in COMMANDS[name]] + [server]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True
        )
        log.close()

    def start(self, op, **request):
        """Sends a request; `finish` takes its answer."""
        self.process.stdin.write(json.dumps({"op": op, **request}).encode() + b"\n")
        self.process.stdin.flush()

    def finish(self):
        ready, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            raise Refused(f"{self.name} " + ("has ended" if ready else "does not answer"))
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        if "error" in answer:
            refused = Refused(answer["error"])
            refused.trace = answer.get("trace", "")
            raise refused
        return answer["ok"]

    def ask(self, op, **request):
        self.start(op, **request)
        return self.finish()

    def kill(self):
        """As a machine that goes away: nothing is said to the broker. With all of its own processes."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def free_port():
    """A port that is free for TCP and UDP, on both loopbacks."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Broker:
    """The real broker on a data directory of its own."""

    def __init__(self, name, *flags, **settings):
        self.data = MADE / "data" / name
        shutil.rmtree(self.data, ignore_errors=True)
        self.log = MADE / "log" / f"broker-{name}.log"
        self.flags, self.settings = list(flags), settings
        self.port, self.http = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [BIN, "serve", "--data", self.data, "--listen", self.address, "--http", f"127.0.0.1:{self.http}"]
        environment = {**os.environ, "MILLSTREAM_FREE_SPACE_MIN": "1MiB"}
        environment |= {f"MILLSTREAM_{key.upper()}": str(value) for key, value in self.settings.items()}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in [*command, *self.flags]], stdout=log, stderr=log, env=environment
            )
        self.wait_until_ready()

    def wait_until_ready(self):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the broker has ended: {self.log.read_text()[-2000:]}")
            if self.status() == 200:
                return
            time.sleep(0.05)
        raise RuntimeError(f"the broker is not ready: {self.log.read_text()[-2000:]}")

    def status(self):
        try:
            with socket.create_connection(("127.0.0.1", self.http), 5) as http:
                http.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return int(http.recv(64).split()[1])
        except (OSError, IndexError, ValueError):
            return 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
