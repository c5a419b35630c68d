"""What takes more than one client, or a broker that fails."""

import os
import socket
import subprocess
import threading
import time

import features
import records
from clients import BIN, KAFKA_CLIENTS, Broker, Client, Refused, Unsupported, decode, encode

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
        # kcat prints text: bytes that are none would not come back as they were.
        if reader.name == "kcat" and "x-kcat" not in topic:
            continue
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
                for _, member, _, _ in members:
                    member.ask("commit", member="m")
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
                commit_until_taken(member)
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


def commit_until_taken(member):
    """A commit that meets a rebalance is refused, as it should be; after the next poll it is taken."""

    def taken():
        try:
            member.ask("commit", member="m")
            return True
        except Refused:
            member.ask("poll", member="m", ms=500)
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
        self.to, self.period_s, self.open, self.cuts = to, period_s, set(), 0
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
            for end in [] if self.is_calm else list(self.open):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                    self.cuts += 1
                except OSError:
                    pass

    def stop(self):
        self.ended.set()
        self.listener.close()


@scenario
def idempotent_under_cuts(broker):
    """an idempotent producer whose connections are cut writes each record once, in order"""
    wrong = []
    for name in ("confluent-kafka", "aiokafka", "rdkafka", "kafkajs"):
        ports = {}
        cuts = Cuts(lambda: ports["broker"], 1.7)
        with Broker("cuts", "--advertise", f"127.0.0.1:{cuts.port}") as own:
            ports["broker"] = own.port
            writer, reader = client(name, f"127.0.0.1:{cuts.port}"), client("confluent-kafka", own.address)
            try:
                topic = features.name("cut")
                features.until("made", 30, lambda: made(reader, topic))
                total = 0
                for turn in range(6):
                    sent = records.plain(10_000, f"{turn}")
                    writer.ask("produce", topic=topic, records=sent, partition=0, idempotent=True)
                    total += len(sent)
                # The broker tells its clients to come this way, the one that counts too.
                cuts.is_calm = True
                with client("confluent-kafka", own.address) as check:
                    end = check.ask("offset", topic=topic, partition=0, at="latest")
                if end != total:
                    wrong.append(f"{name}: {end} records instead of {total} after {cuts.cuts} cuts")
            except Refused as refused:
                wrong.append(f"{name}: {refused} {refused.trace}")
            finally:
                cuts.stop()
                writer.kill()
                reader.kill()
    if wrong:
        raise AssertionError("; ".join(wrong))


def made(admin, topic):
    try:
        admin.ask("create", topic=topic, partitions=1, configs={})
        return True
    except Refused as refused:
        return "ALREADY_EXISTS" in str(refused) or "already exists" in str(refused)


def tool(name, *arguments, data=None, wait_s=30):
    """A Kafka tool by its own name: a link to the one binary."""
    link = features_tools_dir() / name
    done = subprocess.run([link, *arguments], input=data, capture_output=True, timeout=wait_s, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{name} {' '.join(arguments)}: {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def features_tools_dir():
    from clients import MADE

    tools = MADE / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name in ("kafka-topics.sh", "kafka-console-producer.sh", "kafka-console-consumer.sh", "kafka-consumer-groups.sh"):
        link = tools / name
        link.unlink(missing_ok=True)
        link.symlink_to(BIN)
    return tools


@scenario
def chat_with_console_tools(broker):
    """the first demonstration: kafka-topics.sh, kafka-console-producer.sh, kafka-console-consumer.sh"""
    server = ["--bootstrap-server", broker.address]
    tool("kafka-topics.sh", "--create", "--topic", "chat", *server)
    if "chat" not in tool("kafka-topics.sh", "--list", *server).split():
        raise AssertionError("chat is not listed")
    tool("kafka-console-producer.sh", "--topic", "chat", *server, data="hello\nhow are you\n")
    consumer = ["--topic", "chat", "--from-beginning", "--max-messages", "2", "--timeout-ms", "15000", *server]
    found = tool("kafka-console-consumer.sh", *consumer)
    if found != "hello\nhow are you\n":
        raise AssertionError(f"read {found!r}")


@scenario
def chat_with_kafkajs(broker):
    """the second: the README's dozen lines of JavaScript"""
    from clients import HERE, MADE

    environment = {**os.environ, "NODE_PATH": str(MADE / "js" / "node_modules"), "BROKER": broker.address}
    done = subprocess.run(["node", HERE / "chat.js"], capture_output=True, timeout=60, text=True, env=environment)
    if done.returncode != 0 or "hello from kafkajs" not in done.stdout:
        raise AssertionError(f"{done.returncode}: {done.stdout[-300:]} {done.stderr[-500:]}")
