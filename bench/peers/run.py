#!/usr/bin/env python3
"""Millstream and other systems on this machine, the same scenarios pair by pair. See bench/peers/README.md.

    bench/peers/run.py                                        everything, about two hours
    bench/peers/run.py --peers redis --scenarios batched      one pair, some scenarios
    bench/peers/run.py --peers nats,nats-sync --rounds 5 --seconds 3
    bench/peers/run.py --verify-only                          start each, send and read back, check every record
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

sys.path.insert(0, str(HERE))

import table  # noqa: E402

# As bench/run's: in the order in which they are given out, every side's broker first.
CORES = [int(core) for core in os.environ.get("BENCH_CORES", "").split(",") if core] or sorted(os.sched_getaffinity(0))
BROKER_CORE = str(CORES[0])
# The broker's too where there is only one.
LOAD_CORE = str(CORES[-1])
# Our broker's and generator's settings are those given here.
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("MILLSTREAM_")}
START_S = 120
STOP_S = 30
# Above a run's seconds: connecting, the last answers, the topic's end.
RUN_MARGIN_S = 240
# A second without any answer in the middle of a run: the host holds this machine's disk back after a burst.
REPEATS_MAX = 2
# A common rate is known to this share of itself.
RATE_PRECISION = 0.05
# Of the slowest side's full rate: where the search for it gives up.
RATE_LEAST = 1 / 32
ACHIEVED_MIN = 0.99
SYNCHRONOUS = "every write of its files synchronous (chattr +S): on the disk before the answer"


class PeerError(Exception):
    """A side cannot be measured: what to say about it."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def filled(name, **words):
    """A configuration of this directory with its {words} filled in; other braces are its own."""
    text = (HERE / name).read_text()
    for word, value in words.items():
        text = text.replace("{" + word + "}", str(value))
    return text


def pressure(what):
    """Microseconds in which something waited for it, since boot."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/pressure", what).read_text().splitlines():
            if line.startswith("some"):
                return int(line.rpartition("total=")[2])
    return 0


class Side:
    """A broker that this program started and will end, and how the generator reaches it."""

    package = None
    program = None
    # What the settings promise that the driver cannot know; the driver's own word where there is none.
    durability = None
    # Where a sync per message would make a deeper one wait for minutes.
    window_max = None

    def __init__(self, name, place, args):
        self.name = name
        self.place = place / name.replace(" ", "-")
        self.args = args
        self.port = free_port()
        self.admin_port = free_port()
        self.processes = []

    def check(self):
        if self.program and not shutil.which(self.program) and not Path(self.program).exists():
            raise PeerError(f"{self.name}: {self.program} is missing: apt-get install {self.package}")

    def start(self):
        self.check()
        self.data = self.place / "data"
        self.data.mkdir(parents=True)
        try:
            self.launch()
            self.wait()
        except Exception:
            self.stop()
            raise

    def launch(self):
        raise NotImplementedError

    def spawn(self, command, **environment):
        log = open(self.place / "log", "ab")
        process = subprocess.Popen(
            ["taskset", "-c", BROKER_CORE, *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.place,
            env={**PLAIN, **{key: str(value) for key, value in environment.items()}},
            # A group of its own: what it starts itself ends with it.
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def is_ready(self):
        return answers(self.port)

    def wait(self):
        end = time.monotonic() + START_S
        while not self.is_ready():
            if self.processes[-1].poll() is not None or time.monotonic() > end:
                log = (self.place / "log").read_text(errors="replace")[-2000:]
                raise PeerError(f"{self.name} did not start:\n{log}")
            time.sleep(0.1)

    def synchronous(self):
        """Every write to a file below the data directory waits for the disk, as with O_SYNC."""
        done = subprocess.run(["chattr", "+S", self.data], capture_output=True, text=True)
        if done.returncode != 0:
            raise PeerError(f"{self.name}: this file system has no synchronous files: {done.stderr.strip()}")

    def pids(self):
        return [self.processes[-1].pid]

    def environment(self):
        return {"MILLSTREAM_SERVER": f"127.0.0.1:{self.port}"}

    def halt(self):
        """Until `go_on`, it uses neither core nor disk."""
        self.tell(signal.SIGSTOP)

    def go_on(self):
        self.tell(signal.SIGCONT)

    def tell(self, what):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, what)

    def stop(self):
        # One that is halted hears nothing else.
        self.go_on()
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        self.processes.clear()
        shutil.rmtree(self.place, ignore_errors=True)


class Millstream(Side):
    driver = "native"

    def launch(self):
        self.spawn([self.args.broker, "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}",
                    "--http", f"127.0.0.1:{self.admin_port}", "--cores", f"{BROKER_CORE},"])

    def is_ready(self):
        if not (self.data / "tls" / "ca.pem").exists():
            return False
        status = [self.args.broker, "cluster", "status"]
        return subprocess.run(status, env={**PLAIN, **self.environment()}, capture_output=True).returncode == 0

    def environment(self):
        return {**super().environment(), "MILLSTREAM_CA_FILE": str(self.data / "tls" / "ca.pem")}


class Nats(Side):
    driver = "nats"
    package = program = "nats-server"

    def launch(self):
        version = subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout
        numbers = version.strip().rpartition("v")[2].split(".")[:2]
        knows = [int(number) for number in numbers] >= [2, 10]
        if knows:
            self.durability = "on the disk: storage file, sync_interval always"
        sync = "sync_interval: always" if knows else ""
        config = filled("nats.conf", port=self.port, admin_port=self.admin_port, data=self.data, sync=sync)
        (self.place / "nats.conf").write_text(config)
        self.spawn([self.program, "-c", self.place / "nats.conf"])


class NatsSync(Nats):
    durability = SYNCHRONOUS
    window_max = 2000

    def launch(self):
        self.synchronous()
        super().launch()


class Redis(Side):
    driver = "redis"
    package = program = "redis-server"

    def launch(self):
        (self.place / "redis.conf").write_text(filled("redis.conf", port=self.port, data=self.data))
        self.spawn([self.program, self.place / "redis.conf"])


class RabbitMq(Side):
    driver = "rabbitmq"
    package = "rabbitmq-server"
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def launch(self):
        config = filled("rabbitmq.conf", port=self.port, admin_port=self.admin_port)
        (self.place / "rabbitmq.conf").write_text(config)
        (self.place / "enabled_plugins").write_text("[rabbitmq_stream].\n")
        names, distribution = free_port(), free_port()
        erlang = {"ERL_EPMD_PORT": names, "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": self.place}
        # Started here, since a node would leave one behind.
        self.spawn(["epmd", "-port", names, "-address", "127.0.0.1"], **erlang)
        self.spawn(
            [self.program],
            RABBITMQ_NODENAME=f"bench{self.port}@localhost", RABBITMQ_DIST_PORT=distribution,
            RABBITMQ_MNESIA_BASE=self.data, RABBITMQ_LOG_BASE=self.place, RABBITMQ_PID_FILE=self.place / "pid",
            RABBITMQ_CONFIG_FILE=self.place / "rabbitmq.conf",
            RABBITMQ_ENABLED_PLUGINS_FILE=self.place / "enabled_plugins",
            # Waiting by spinning would be counted as its CPU time.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none "
                                                "-kernel inet_dist_use_interface {127,0,0,1}",
            **erlang,
        )


class RabbitMqSync(RabbitMq):
    durability = SYNCHRONOUS

    def launch(self):
        self.synchronous()
        super().launch()


PEERS = {"nats": Nats, "nats-sync": NatsSync, "redis": Redis, "rabbitmq": RabbitMq, "rabbitmq-sync": RabbitMqSync}
OURS = {"millstream native": "native", "millstream kafka": "kafka"}


class Generator:
    """`millstream bench` on its own core."""

    def __init__(self, args, place):
        self.args = args
        self.place = place

    def call(self, side, driver, arguments, name):
        """The result of one run; says what happened when there is none."""
        result = self.place / "result.json"
        result.unlink(missing_ok=True)
        pids = ",".join(map(str, side.pids()))
        command = ["taskset", "-c", LOAD_CORE, self.args.load, "bench", *arguments, "--driver", driver,
                   "--broker-pid", pids, "--json", result]
        # Dirty pages of the run before are not this one's to write.
        os.sync()
        began = {what: pressure(what) for what in ("cpu", "io")}
        start = time.monotonic()
        done = subprocess.run(
            list(map(str, command)), env={**PLAIN, **side.environment()}, capture_output=True, text=True,
            timeout=self.args.seconds + self.args.warm_up + RUN_MARGIN_S,
        )
        took = time.monotonic() - start
        if not result.exists():
            raise PeerError(f"{name}: {done.stderr.strip()[-500:] or done.stdout[-500:]}")
        report = json.loads(result.read_text())
        share = {what: (pressure(what) - began[what]) / 1e6 / took for what in began}
        return {"report": report, "pressure": share, "good": done.returncode == 0}

    def verify(self, side, driver):
        """Every record that was acknowledged comes back, whole, once and in order: at full rate, and at the tail."""
        shape = ["--record-bytes", "100:50%,1k:50%", "--partitions", 2, "--spread", "round", "--warm-up", 0,
                 "--verify", "--duration", 5]
        for kind, rate in (("produce", ["--rate", "max", "--records", 50_000]), ("e2e", ["--rate", 2000, "--records", 4000])):
            run = self.call(side, driver, [kind, *shape, *rate], f"{side.name} {driver}: {kind} checked")
            verdict = traffic(run)["verdict"]
            if not run["good"]:
                raise PeerError(f"{side.name} {driver}: {kind}: records did not come back: {json.dumps(verdict)}")
            print(f"   {driver}: {kind}: every record came back ({json.dumps(verdict)})", flush=True)

    def measure(self, side, driver, scenario, rate, seconds):
        arguments = [
            "produce", "--record-bytes", scenario["record_bytes"], "--batch-bytes", scenario["batch_bytes"],
            "--linger-us", scenario["linger_us"].get(driver, 0), "--partitions", scenario["partitions"],
            "--window", min(scenario["window"], side.window_max or scenario["window"]), "--duration", seconds, "--warm-up", self.args.warm_up,
        ]
        if scenario["partitions"] > 1:
            arguments += ["--spread", "round"]
        if rate is None:
            arguments += ["--rate", "max", "--records", scenario["records"]]
        else:
            arguments += ["--rate", f"{rate:.0f}", "--drain", 1]
        run = self.call(side, driver, arguments, f"{side.name} {driver}: {scenario['name']}")
        return figures(run)


def traffic(run):
    return run["report"]["result"]["traffic"]


def figures(run):
    """What the table needs of a run, and what says whether it can be believed."""
    report = traffic(run)
    phase = report["phases"][-1]
    produced, cost = phase["produced"], phase["cost"]
    latency = produced["latency"] or {}
    per_million = (cost or {}).get("per_million") or {}
    inner = phase["series"][1:-1]
    return {
        "records_per_second": produced["records_per_second"],
        "acknowledged": produced["acknowledged"],
        "failed": sum(produced["failed"].values()) + produced["unsent"],
        "achieved": produced["achieved"],
        "seconds": phase["seconds"],
        "p50_us": latency.get("p50_us"),
        "p99_us": latency.get("p99_us"),
        "p999_us": latency.get("p999_us"),
        "cpu_seconds_per_million": per_million.get("cpu_seconds"),
        "written_bytes_per_million": per_million.get("written_bytes"),
        "resident_bytes": ((cost or {}).get("used") or {}).get("resident_bytes"),
        "generator_cores": phase["busy"]["generator_cores"],
        "broker_cores": phase["busy"]["broker_cores"],
        "others_cores": phase["busy"]["others_cores"],
        "steal_cores": phase["busy"]["steal_cores"],
        "pressure": run["pressure"],
        "stalled": any(second["acknowledged"] == 0 and second["sent"] > 0 for second in inner),
        "system": report["system"],
        "setup": report["setup"],
    }


def highest(is_borne, above):
    """The highest rate below `above` that is borne, to `RATE_PRECISION`; None when that lies below `RATE_LEAST` of it."""
    low, high, least = None, above, above * RATE_LEAST
    while high > (low or least) * (1 + RATE_PRECISION):
        # Rates are ratios: the middle is the geometric one.
        rate = (high * low) ** 0.5 if low else high * 0.8
        if is_borne(rate):
            low = rate
        else:
            high = rate
    return low


class Bench:
    def __init__(self, args, place):
        self.args = args
        self.generator = Generator(args, place)
        self.ours = Millstream("millstream", place, args)
        self.peers = [PEERS[name](name, place, args) for name in args.peers]
        self.result = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": args.rounds,
            "seconds": args.seconds, "warm_up": args.warm_up, "skipped": [], "runs": [], "rates": {},
        }

    def run(self):
        try:
            self.start(self.ours)
            self.verified(self.ours, OURS.values())
            for peer in list(self.peers):
                try:
                    self.start(peer)
                    self.verified(peer, [peer.driver])
                except PeerError as error:
                    self.skip(peer, error)
            if not self.args.verify_only:
                for scenario in self.scenarios():
                    self.scenario(scenario)
                    self.write()
        finally:
            for side in [*self.peers, self.ours]:
                side.stop()
        return self.result

    def scenarios(self):
        every = json.loads((HERE / "scenarios.json").read_text())
        return [one for one in every if any(word in one["name"] for word in self.args.scenarios)]

    def start(self, side):
        print(f"== {side.name}", flush=True)
        side.start()

    def verified(self, side, drivers):
        for driver in drivers:
            self.generator.verify(side, driver)

    def skip(self, peer, error):
        print(f"   left out: {error}", file=sys.stderr, flush=True)
        self.result["skipped"].append({"peer": peer.name, "why": str(error)})
        peer.stop()
        self.peers.remove(peer)

    def sides(self, peer):
        """Those of a pair in turn: ours by both protocols, then theirs."""
        return [*((self.ours, name, driver) for name, driver in OURS.items()), (peer, peer.name, peer.driver)]

    def scenario(self, scenario):
        if "rate_from" not in scenario:
            self.rounds(scenario, scenario["name"], None, self.peers)
            return
        done = set()
        for which, peers in (("durable", self.durable_peers(scenario)), ("all", self.peers)):
            sides = frozenset(peer.name for peer in peers)
            if sides in done or not sides:
                continue
            done.add(sides)
            name = f"{scenario['name']}, {which}"
            rate = self.common_rate(scenario, peers)
            if rate is None:
                print(f"== {name}: no rate that every side sustains was found", flush=True)
                continue
            self.result["rates"][name] = rate
            self.rounds(scenario, name, rate, peers)

    def durable_peers(self, scenario):
        """Those that answered from the disk at full rate."""
        rows = {row["side"]: row for row in table.rows(self.result["runs"]) if row["scenario"] == scenario["rate_from"]}
        return [peer for peer in self.peers if peer.name in rows and rows[peer.name]["durable"]]

    def rounds(self, scenario, name, rate, peers):
        print(f"== {name}" + (f" at {rate:.0f}/s" if rate else ""), flush=True)
        for number in range(self.args.rounds):
            for peer in peers:
                with self.pair(peer):
                    for side, side_name, driver in self.sides(peer):
                        run = self.one(side, driver, scenario, rate)
                        run |= {"scenario": name, "round": number, "pair": peer.name, "side": side_name}
                        run["durability"] = side.durability or run["system"]["durability"]
                        self.result["runs"].append(run)
                        self.say(run)

    @contextlib.contextmanager
    def pair(self, peer):
        """Nobody but ours and `peer` runs meanwhile."""
        others = [other for other in self.peers if other is not peer]
        for other in others:
            other.halt()
        try:
            yield
        finally:
            for other in others:
                other.go_on()

    def one(self, side, driver, scenario, rate):
        for repeat in range(REPEATS_MAX + 1):
            run = self.generator.measure(side, driver, scenario, rate, self.args.seconds)
            if not run["stalled"]:
                break
        return {**run, "repeats": repeat}

    def common_rate(self, scenario, peers):
        """The highest rate that every side of these pairs sustains, found by halving what lies below the slowest one's
        full rate."""
        full = table.medians(self.result["runs"], scenario["rate_from"], "records_per_second")
        sides = [(full[name], side, driver, peer) for peer in peers for side, name, driver in self.sides(peer) if name in full]
        if not sides:
            return None
        # The slowest says no first. Ours stand in each pair, and once is enough.
        sides = list({(side.name, driver): (rate, side, driver, peer) for rate, side, driver, peer in sides}.values())
        sides.sort(key=lambda side: side[0])
        return highest(lambda rate: self.all_sustain(sides, scenario, rate), sides[0][0])

    def all_sustain(self, sides, scenario, rate):
        for _, side, driver, peer in sides:
            with self.pair(peer):
                if not self.sustains(side, driver, scenario, rate):
                    return False
        return True

    def sustains(self, side, driver, scenario, rate):
        run = self.one(side, driver, scenario, rate)
        sustained = (run["achieved"] or 0) >= ACHIEVED_MIN and run["failed"] == 0
        print(f"   {side.name} {driver} at {rate:.0f}/s: {'sustained' if sustained else 'too much'}", flush=True)
        return sustained

    @staticmethod
    def say(run):
        cpu = run["cpu_seconds_per_million"]
        print(
            f"   {run['round'] + 1} {run['side']:18} {run['records_per_second']:>9.0f}/s"
            f"  {cpu if cpu is None else format(cpu, '.3f')} CPU s/M  p50 {run['p50_us']} p99 {run['p99_us']}"
            f" p99.9 {run['p999_us']} us  others {run['others_cores']:.2f} cores"
            + ("  STALLED" if run["stalled"] else ""), flush=True,
        )

    def write(self):
        self.args.out.mkdir(parents=True, exist_ok=True)
        self.result["table"] = table.rows(self.result["runs"])
        (self.args.out / "peers.json").write_text(json.dumps(self.result, indent=1))
        (self.args.out / "peers.md").write_text(table.page(self.result))


def arguments():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--broker", type=Path, default=ROOT / "target/release/millstream", help="our broker")
    words.add_argument("--load", type=Path, help="millstream with the drivers' features; as --broker")
    words.add_argument("--peers", type=lambda text: text.split(","), default=list(PEERS), help=",".join(PEERS))
    words.add_argument("--scenarios", type=lambda text: text.split(","), default=[""], help="those with such a word in their names")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--seconds", type=int, default=4, help="of a run, at most")
    words.add_argument("--warm-up", type=int, default=1, help="seconds")
    words.add_argument("--dir", type=Path, default=ROOT / "target/tmp", help="on the disk to measure, for all sides")
    words.add_argument("--out", type=Path, default=ROOT / "target/peers")
    words.add_argument("--verify-only", action="store_true")
    args = words.parse_args()
    unknown = set(args.peers) - set(PEERS)
    if unknown:
        words.error(f"no such peer: {', '.join(sorted(unknown))}")
    args.load = (args.load or args.broker).resolve()
    args.broker = args.broker.resolve()
    return args


def main():
    args = arguments()
    # What is asked to end ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = args.dir.resolve() / f"peers-{os.getpid()}"
    place.mkdir(parents=True)
    try:
        result = Bench(args, place).run()
    except PeerError as error:
        sys.exit(f"bench/peers: {error}")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if not args.verify_only:
        print(table.page(result))
    if result["skipped"]:
        sys.exit(f"bench/peers: left out: {', '.join(one['peer'] for one in result['skipped'])}")


if __name__ == "__main__":
    main()
