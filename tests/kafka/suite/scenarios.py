"""What takes more than one client, or a broker that fails."""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import features
import records
from clients import BIN, HERE, KAFKA_CLIENTS, MADE, ROOT, Broker, Client, Refused, Unsupported

SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def client(name, server):
    made = Client(name, server)
    made.helper = made
    return made


@scenario
def each_reads_each(broker):
    """what each client writes each client reads, values, keys, headers and times equal; the SDK on QUIC included"""
    names = [*KAFKA_CLIENTS, "millstream"]
    open_clients = {name: client(name, broker.address) for name in names}
    try:
        topics = {}
        for name in names:
            codecs = ["none", "lz4", "zstd"] if name == "millstream" else records.CODECS
            for codec in codecs:
                topic = features.name(f"x-{name}-{codec}")
                open_clients["confluent-kafka"].ask("create", topic=topic, partitions=1, configs={})
                sent = records.plain(60) if name == "kcat" else records.many(60) + records.odd()
                open_clients[name].ask("produce", topic=topic, records=sent, partition=0, codec=codec)
                topics[topic] = sent
        wrong, readers = [], []
        for name in names:
            readers.append(threading.Thread(target=read_all, args=(open_clients[name], topics, wrong)))
            readers[-1].start()
        for one in readers:
            one.join()
        if wrong:
            raise AssertionError("; ".join(wrong))
    finally:
        for one in open_clients.values():
            one.kill()


def read_all(reader, topics, wrong):
    for topic, sent in topics.items():
        # kcat prints text: bytes that are none, the last of `odd`, would not come back as they were.
        if reader.name == "kcat" and len(sent) > 60:
            sent = sent[: 60 + records.ODD_TEXT_COUNT]
        try:
            found = reader.ask("read", topic=topic, partition=0, start="earliest", count=len(sent))
            differs = records.same(sent, found)
        except (Refused, Unsupported) as refused:
            differs = str(refused)
        if differs:
            wrong.append(f"{reader.name} reads {topic}: {differs}")


@scenario
def broker_killed_under_groups(broker):
    """kill -9 and restart while groups work: clients go on by themselves, nothing acknowledged is lost"""
    names = ["confluent-kafka", "kafkajs", "kafka-python", "aiokafka", "rdkafka"]
    with Broker("killed") as own:
        members, acknowledged = [], {}
        writer = client("confluent-kafka", own.address)
        try:
            for name in names:
                topic, group = features.name(f"work-{name}"), f"group-{name}"
                writer.ask("create", topic=topic, partitions=3, configs={})
                member = client(name, own.address)
                member.ask("join", member="m", group=group, topics=[topic], auto=False)
                members.append((name, member, topic, group))
                acknowledged[topic] = set()
            seen = {topic: set() for topic in acknowledged}
            for turn in range(4):
                for topic, values in acknowledged.items():
                    sent = records.plain(100, f"turn-{turn}")
                    writer.ask("produce", topic=topic, records=sent)
                    values.update(one["value"] for one in sent)
                poll_all(members, seen, 500)
                for _, member, topic, _ in members:
                    commit_until_taken(member, seen[topic])
                if turn in (1, 2):
                    own.kill()
                    own.start()
            end = time.monotonic() + 60
            while seen != acknowledged and time.monotonic() < end:
                poll_all(members, seen, 500)
            for topic, values in acknowledged.items():
                if seen[topic] != values:
                    raise AssertionError(f"{topic}: {len(seen[topic])} of {len(values)} records read")
            for name, member, topic, group in members:
                commit_until_taken(member, seen[topic])
                member.ask("leave", member="m")
            own.kill()
            own.start()
            for name, member, topic, group in members:
                committed = writer_committed(own, group)
                expected = sum(place for _, _, place in committed)
                if expected != len(acknowledged[topic]):
                    raise AssertionError(f"{group}: committed {committed}, not {len(acknowledged[topic])} records")
        finally:
            writer.kill()
            for _, member, _, _ in members:
                member.kill()


def commit_until_taken(member, seen):
    """A commit that meets a rebalance is refused, as it should be, and kafkajs takes none while it begins anew; after
    the next poll it is taken."""

    def taken():
        try:
            member.ask("commit", member="m")
            return True
        except Refused:
            seen.update(one["value"] for one in member.ask("poll", member="m", ms=500))
            return False

    features.until("committed", 30, taken)


def writer_committed(broker, group):
    with client("confluent-kafka", broker.address) as admin:
        return admin.ask("committed", group=group)


def poll_all(members, seen, ms):
    for _, member, _, _ in members:
        member.start("poll", member="m", ms=ms)
    for _, member, topic, _ in members:
        seen[topic].update(one["value"] for one in member.finish())


class Cuts:
    """Passes bytes between clients and the broker and cuts every connection again and again."""

    def __init__(self, to, period_s):
        self.to, self.period_s, self.open, self.rounds = to, period_s, set(), 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended, self.is_calm = threading.Event(), False
        for work in (self.accept, self.cut):
            threading.Thread(target=work, daemon=True).start()

    def accept(self):
        while not self.ended.is_set():
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to()))
            except OSError:
                continue
            self.open |= {near, far}
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(one, other), daemon=True).start()

    def copy(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            self.open.discard(end)
            end.close()

    def cut(self):
        while not self.ended.wait(self.period_s):
            ends = [] if self.is_calm else list(self.open)
            for end in ends:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            self.rounds += bool(ends)

    def stop(self):
        self.ended.set()
        self.listener.close()


@scenario
def idempotent_under_cuts(broker):
    """an idempotent producer whose connections are cut writes each record once, in order"""
    wrong = []
    together = [threading.Thread(target=write_under_cuts, args=(name, wrong)) for name in KAFKA_CLIENTS]
    for one in together:
        one.start()
    for one in together:
        one.join()
    if wrong:
        raise AssertionError("; ".join(wrong))


def write_under_cuts(name, wrong):
    """Each client has a broker of its own: it is told to come by way of the cuts."""
    ports = {}
    cuts = Cuts(lambda: ports["broker"], 1.7)
    with Broker(f"cuts-{name}", "--advertise", f"127.0.0.1:{cuts.port}") as own:
        ports["broker"] = own.port
        writer, reader = client(name, f"127.0.0.1:{cuts.port}"), client("confluent-kafka", own.address)
        try:
            topic, sent = features.name("cut"), []
            features.until("made", 30, lambda: made(reader, topic))
            while len(sent) < 60_000 or cuts.rounds < 3:
                turn = records.plain(10_000, f"{len(sent)}")
                writer.ask("produce", topic=topic, records=turn, idempotent=True)
                sent += turn
            # Who reads comes this way, too.
            cuts.is_calm = True
            with client("confluent-kafka", own.address) as check:
                differs = once_in_order(check, topic, sent)
            if differs:
                wrong.append(f"{name}: {differs} after {cuts.rounds} cuts")
        except Exception as error:  # of a thread: told by the scenario
            wrong.append(f"{name}: {type(error).__name__}: {error} {getattr(error, 'trace', '')}")
        finally:
            cuts.stop()
            writer.kill()
            reader.kill()


CUT_PARTITIONS = 3


def once_in_order(reader, topic, sent):
    """Every record is there once, those of a partition in the order they were sent in; or what is wrong."""
    places = {(one["key"], one["value"]): place for place, one in enumerate(sent)}
    seen = []
    for partition in range(CUT_PARTITIONS):
        end = reader.ask("offset", topic=topic, partition=partition, at="latest")
        found = reader.ask("read", topic=topic, partition=partition, start="earliest", count=end) if end else []
        order = [places.get((one["key"], one["value"]), -1) for one in found]
        if any(one >= other for one, other in zip(order, order[1:])):
            return f"partition {partition} is out of order, or has a record twice"
        seen += order
    if sorted(seen) != list(range(len(sent))):
        return f"{len(seen)} records, {len(set(seen))} distinct, instead of {len(sent)}"
    return None


def made(admin, topic):
    try:
        admin.ask("create", topic=topic, partitions=CUT_PARTITIONS, configs={})
        return True
    except Refused as refused:
        return "ALREADY_EXISTS" in str(refused) or "already exists" in str(refused)


class Tools:
    """Kafka's tool names beside millstream, where deploy/kafka-tools/install puts them, in a passing directory."""

    def __init__(self, broker):
        self.server = ["--bootstrap-server", broker.address]
        self.environment = {**os.environ, "MILLSTREAM_SERVER": broker.address, "MILLSTREAM_DATA": str(broker.data)}

    def __enter__(self):
        self.held = tempfile.TemporaryDirectory()
        self.directory = Path(self.held.name)
        (self.directory / "millstream").symlink_to(BIN)
        subprocess.run([ROOT / "deploy" / "kafka-tools" / "install", self.directory], check=True)
        return self

    def __exit__(self, *_):
        self.held.cleanup()

    def start(self, name, *arguments, data=None):
        command = [self.directory / name, *arguments]
        return subprocess.run(command, input=data, capture_output=True, timeout=60, text=True, env=self.environment)

    def run(self, name, *arguments, data=None):
        """What it prints, of one that succeeds."""
        done = self.start(name, *arguments, data=data)
        if done.returncode != 0:
            raise AssertionError(f"{name} {' '.join(arguments)}: {done.returncode}: {done.stdout} {done.stderr[-500:]}")
        return done.stdout

    def ask(self, name, *arguments, data=None):
        """The same of one of Kafka's, that is to be told where the broker is."""
        return self.run(name, *arguments, *self.server, data=data)


@scenario
def chat_with_console_tools(broker):
    """the first demonstration: kafka-topics.sh, kafka-console-producer.sh, kafka-console-consumer.sh"""
    with Tools(broker) as tools:
        tools.ask("kafka-topics.sh", "--create", "--topic", "chat")
        features.expect("listed", "chat" in tools.ask("kafka-topics.sh", "--list").split(), True)
        tools.ask("kafka-console-producer.sh", "--topic", "chat", data="hello\nhow are you\n")
        consumer = ["--topic", "chat", "--from-beginning", "--max-messages", "2", "--timeout-ms", "15000"]
        features.expect("read", tools.ask("kafka-console-consumer.sh", *consumer), "hello\nhow are you\n")


TOOL_NAMES = (
    "kafka-topics.sh",
    "kafka-console-producer.sh",
    "kafka-console-consumer.sh",
    "kafka-consumer-groups.sh",
    "kafka-configs.sh",
    "kafka-get-offsets.sh",
    "kafka-delete-records.sh",
    "kafka-broker-api-versions.sh",
)


@scenario
def all_tools(broker):
    """the eight tools do their work on the real broker, and each says in one line what --zookeeper has become"""
    topic, group = features.name("tools"), features.name("g")
    lines = [f"value-{n}" for n in range(40)]
    with Tools(broker) as tools:
        one = ["--topic", topic]
        made = tools.ask("kafka-topics.sh", "--create", *one, "--partitions", "2", "--config", "retention.ms=3600000")
        expect_in("created", made, f"Created topic {topic}.")
        told = tools.ask("kafka-topics.sh", "--describe", *one)
        expect_in("described", told, "PartitionCount: 2", "retention.ms=3600000")

        keyed = "".join(f"key-{n % 10}:{line}\n" for n, line in enumerate(lines))
        by_key = ["--property", "parse.key=true", "--property", "key.separator=:"]
        tools.ask("kafka-console-producer.sh", *one, *by_key, data=keyed)
        reads = [*one, "--group", group, "--from-beginning", "--max-messages", "40", "--timeout-ms", "20000"]
        features.expect("read", sorted(tools.ask("kafka-console-consumer.sh", *reads).splitlines()), sorted(lines))

        features.expect("read to the end", held(tools, group, topic), {"place": 40, "end": 40, "lag": 0})
        expect_in("groups", tools.ask("kafka-consumer-groups.sh", "--list"), group)
        to_start = ["--reset-offsets", "--group", group, *one, "--to-earliest"]
        tools.ask("kafka-consumer-groups.sh", *to_start, "--dry-run")
        features.expect("as it was", held(tools, group, topic), {"place": 40, "end": 40, "lag": 0})
        tools.ask("kafka-consumer-groups.sh", *to_start, "--execute")
        features.expect("set back", held(tools, group, topic), {"place": 0, "end": 40, "lag": 40})
        features.expect("again", sorted(tools.ask("kafka-console-consumer.sh", *reads).splitlines()), sorted(lines))

        entity = ["--entity-type", "topics", "--entity-name", topic]
        altered = tools.ask("kafka-configs.sh", "--alter", *entity, "--add-config", "retention.ms=7200000")
        expect_in("altered", altered, f"Completed updating config for topic {topic}.")
        expect_in("configs", tools.ask("kafka-configs.sh", "--describe", *entity), "retention.ms=7200000")

        ends = [int(line.split(":")[2]) for line in tools.ask("kafka-get-offsets.sh", *one).splitlines()]
        features.expect("ends", (len(ends), sum(ends)), (2, 40))
        wanted = tools.directory / "before.json"
        wanted.write_text(json.dumps({"partitions": [{"topic": topic, "partition": 0, "offset": 3}], "version": 1}))
        deleted = tools.ask("kafka-delete-records.sh", "--offset-json-file", str(wanted))
        expect_in("deleted", deleted, f"partition: {topic}-0\tlow_watermark: 3")
        starts = tools.ask("kafka-get-offsets.sh", *one, "--time", "earliest")
        features.expect("starts", starts.splitlines(), [f"{topic}:0:3", f"{topic}:1:0"])

        expect_in("served", tools.ask("kafka-broker-api-versions.sh"), broker.address, "Fetch(1): 4 to 12")
        tools.ask("kafka-topics", "--delete", *one)
        features.expect("listed", topic in tools.ask("kafka-topics", "--list").split(), False)

        for name in TOOL_NAMES:
            done = tools.start(name, "--zookeeper", "localhost:2181")
            features.expect(name, (done.returncode, done.stdout, len(done.stderr.splitlines())), (1, "", 1))
            expect_in(name, done.stderr, "--zookeeper is no longer needed", "--bootstrap-server")


def expect_in(what, text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError(f"{what}: no {part!r} in {text!r}")


def held(tools, group, topic):
    """What kafka-consumer-groups.sh says of a group's share of a topic, its partitions together."""
    said = tools.ask("kafka-consumer-groups.sh", "--describe", "--group", group)
    rows = [line.split() for line in said.splitlines() if line.split()[:2] == [group, topic]]
    columns = [[int(row[column]) for row in rows] for column in (3, 4, 5)]
    return dict(zip(("place", "end", "lag"), map(sum, columns)))


@scenario
def one_command_line_on_both_roads(broker):
    """what `millstream produce` writes over Kafka's protocol is read over QUIC and the reverse, in groups too"""
    lines = [f"key-{n % 10}:value-{n}" for n in range(200)]
    wanted = sorted(line.replace(":", "\t") for line in lines)
    with Tools(broker) as tools:
        for write, read in ((["--kafka"], []), ([], ["--kafka"])):
            topic, group = features.name("roads"), features.name("g")
            tools.ask("kafka-topics.sh", "--create", "--topic", topic, "--partitions", "3")
            data = "".join(f"{line}\n" for line in lines)
            tools.run("millstream", "produce", topic, "--key-separator", ":", "--compression", "lz4", *write, data=data)
            consume = ["millstream", "consume", topic, "--from-beginning", "--output", "key-value", *read]
            alone = tools.run(*consume, "--exit-at-end")
            features.expect(f"written {write}, read {read}", sorted(alone.splitlines()), wanted)
            found = tools.run(*consume, "--group", group, "--max-records", "200")
            features.expect(f"written {write}, read {read} in a group", sorted(found.splitlines()), wanted)
            features.expect("committed", held(tools, group, topic), {"place": 200, "end": 200, "lag": 0})
            tools.run("millstream", "produce", topic, "--key-separator", ":", *write, data="key-1:later\n")
            found = tools.run(*consume, "--group", group, "--max-records", "1")
            features.expect("goes on behind it", found.splitlines(), ["key-1\tlater"])


@scenario
def chat_with_kafkajs(broker):
    """the second: the README's dozen lines of JavaScript"""
    environment = {**os.environ, "NODE_PATH": str(MADE / "js" / "node_modules"), "BROKER": broker.address}
    done = subprocess.run(["node", HERE / "chat.js"], capture_output=True, timeout=60, text=True, env=environment)
    if done.returncode != 0 or "hello from kafkajs" not in done.stdout:
        raise AssertionError(f"{done.returncode}: {done.stdout[-300:]} {done.stderr[-500:]}")
