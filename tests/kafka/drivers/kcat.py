"""kcat: librdkafka at the command line. It has no admin operations but listing."""

import base64
import json
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import driver

WAIT_S = 25


class Kcat:
    def __init__(self, server):
        self.server = server
        self.members = {}

    def call(self, *arguments, data=None, wait_s=WAIT_S):
        command = ["kcat", "-b", self.server, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=wait_s)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode()[-2000:])
        return done.stdout

    def metadata(self, *arguments):
        return json.loads(self.call("-L", "-J", *arguments))

    def topics(self):
        return sorted(found["topic"] for found in self.metadata()["topics"])

    def describe(self, topic):
        [found] = self.metadata("-t", topic)["topics"]
        if "error" in found:
            raise RuntimeError(found["error"])
        return {"partitions": len(found["partitions"])}

    def offset(self, topic, partition, at):
        at = {"earliest": -2, "latest": -1}.get(at, at)
        found = json.loads(self.call("-Q", "-J", "-t", f"{topic}:{partition}:{at}"))
        return found[topic][str(partition)]["offset"]

    # A key and a value a line: kcat sets no timestamps, and the same headers for all records of a call.
    def produce(self, topic, records, partition=None, codec="none", acks="all", idempotent=False):
        if any(one["value"] is None or one["timestamp"] is not None or one["headers"] for one in records):
            raise driver.Unsupported("kcat sets no timestamps and writes a line a record")
        where = [] if partition is None else ["-p", str(partition)]
        lines = b"".join(
            base64.b64decode(one["key"] or "") + b"\t" + base64.b64decode(one["value"]) + b"\n" for one in records
        )
        options = ["-X", f"acks={acks}", "-X", f"enable.idempotence={str(idempotent).lower()}"]
        self.call("-P", "-E", "-t", topic, "-K", "\t", "-Z", "-z", codec, *where, *options, data=lines, wait_s=90)
        return len(records)

    def read(self, topic, partition, start, count):
        at = f"s@{start['time']}" if isinstance(start, dict) else {"earliest": "beginning", "latest": "end"}.get(start, start)
        arguments = ["-C", "-J", "-t", topic, "-p", str(partition), "-o", str(at), "-c", str(count), "-e", "-q"]
        return [self.taken(line) for line in self.call(*arguments).splitlines()]

    def taken(self, line):
        found = json.loads(line)
        encode = lambda text: None if text is None else base64.b64encode(text.encode()).decode()
        pairs = found.get("headers", [])
        headers = [[pairs[at], encode(pairs[at + 1])] for at in range(0, len(pairs), 2)]
        return {
            "partition": found["partition"],
            "offset": found["offset"],
            "key": encode(found["key"]),
            "value": encode(found["payload"]),
            "headers": headers,
            "timestamp": found["ts"],
        }

    def join(self, member, group, topics, auto=False, instance=None, session_ms=6000, strategy="range"):
        if not auto:
            raise driver.Unsupported("kcat commits by itself only")
        static = ["-X", f"group.instance.id={instance}"] if instance else []
        options = ["-X", "auto.offset.reset=earliest", "-X", "auto.commit.interval.ms=200"]
        options += ["-X", f"session.timeout.ms={session_ms}", "-X", "heartbeat.interval.ms=500", *static]
        options += ["-X", f"partition.assignment.strategy={strategy}"]
        command = ["kcat", "-b", self.server, "-J", "-u", *options, "-G", group, *topics]
        # Read by name: with a file of its own, so that nothing here moves where kcat writes.
        out, said = tempfile.NamedTemporaryFile(), tempfile.NamedTemporaryFile()
        process = subprocess.Popen(command, stdout=out, stderr=said)
        self.members[member] = {"process": process, "out": out, "read": 0, "said": said}

    def assignment(self, member):
        """From what it says of each change: what is given, what is taken."""
        said = Path(self.members[member]["said"].name).read_text()
        held = set()
        # "(memberid ...): assigned: t [0], t [1]" or "incremental assignment of 1 partition(s) (memberid ...): t [0]"
        for line in re.findall(r"^% Group \S+ rebalanced(.*)$", said, re.MULTILINE):
            changed = {(topic, int(at)) for topic, at in re.findall(r"(\S+) \[(\d+)\]", line)}
            held = held - changed if "revoke" in line.partition(" [")[0] else held | changed
        return sorted([topic, at] for topic, at in held)

    def poll(self, member, ms):
        time.sleep(ms / 1000)
        state = self.members[member]
        with open(state["out"].name, "rb") as out:
            out.seek(state["read"])
            data = out.read()
        whole = data[: data.rfind(b"\n") + 1]
        state["read"] += len(whole)
        return [self.taken(line) for line in whole.splitlines()]

    def leave(self, member):
        process = self.members.pop(member)["process"]
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)

    def transaction(self):
        self.call("-P", "-t", "transacted", "-X", "transactional.id=t", data=b"x\n")


driver.main(Kcat)
