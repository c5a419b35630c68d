"""kafka-python."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import for_code

import driver

WAIT_S = 20
WAIT_MS = WAIT_S * 1000


def taken(one):
    return driver.record(one.partition, one.offset, one.key, one.value, one.headers, one.timestamp)


def check(answers):
    """Of answers that come back in words."""
    wrong = [answer for answer in answers.values() if answer != "OK"]
    if wrong:
        raise RuntimeError("; ".join(map(str, wrong)))


class KafkaPython:
    def __init__(self, server):
        self.server = server
        self.made = None
        self.members = {}

    @property
    def admin(self):
        if self.made is None:
            self.made = KafkaAdminClient(bootstrap_servers=self.server)
        return self.made

    def create(self, topic, partitions, configs):
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": configs}
        self.admin.create_topics({topic: options}, timeout_ms=WAIT_MS)

    def topics(self):
        return sorted(self.admin.list_topics())

    def describe(self, topic):
        [found] = self.admin.describe_topics([topic])
        if found.get("error_code"):
            raise for_code(found["error_code"])(topic)
        return {"partitions": len(found["partitions"])}

    def add_partitions(self, topic, total):
        self.admin.create_partitions({topic: total}, timeout_ms=WAIT_MS)

    def delete(self, topic):
        self.admin.delete_topics([topic], timeout_ms=WAIT_MS)

    def configs(self, topic):
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        found = self.admin.describe_configs(asked, config_filter="all")
        entries = next(iter(found.values()))[topic]
        return {name: entry["value"] if isinstance(entry, dict) else entry for name, entry in entries.items()}

    def alter_config(self, topic, key, value):
        done = self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})])
        check(done["topic"])

    def delete_records(self, topic, partition, before):
        self.admin.delete_records({TopicPartition(topic, partition): before}, timeout_ms=WAIT_MS)

    def offset(self, topic, partition, at):
        where = TopicPartition(topic, partition)
        consumer = KafkaConsumer(bootstrap_servers=self.server)
        try:
            if at == "earliest":
                return consumer.beginning_offsets([where])[where]
            if at == "latest":
                return consumer.end_offsets([where])[where]
            found = consumer.offsets_for_times({where: at})[where]
            return -1 if found is None else found.offset
        finally:
            consumer.close()

    def produce(self, topic, records, partition=None, codec="none", acks="all", idempotent=False):
        producer = KafkaProducer(
            bootstrap_servers=self.server,
            compression_type=None if codec == "none" else codec,
            acks=acks,
            enable_idempotence=idempotent,
            linger_ms=5,
            retries=50,
            delivery_timeout_ms=60_000,
            request_timeout_ms=10_000,
        )
        try:
            sent = [
                producer.send(
                    topic,
                    key=driver.to_bytes(one["key"]),
                    value=driver.to_bytes(one["value"]),
                    headers=[(name, driver.to_bytes(data)) for name, data in one["headers"]],
                    timestamp_ms=one["timestamp"],
                    partition=partition,
                )
                for one in records
            ]
            producer.flush(90)
            return len([future.get(WAIT_S) for future in sent])
        finally:
            producer.close()

    def read(self, topic, partition, start, count):
        where = TopicPartition(topic, partition)
        consumer = KafkaConsumer(bootstrap_servers=self.server, enable_auto_commit=False, auto_offset_reset="earliest")
        try:
            consumer.assign([where])
            if isinstance(start, dict):
                start = consumer.offsets_for_times({where: start["time"]})[where].offset
            if start == "earliest":
                consumer.seek_to_beginning(where)
            elif start == "latest":
                consumer.seek_to_end(where)
            else:
                consumer.seek(where, start)
            records, end = [], time.monotonic() + WAIT_S
            while len(records) < count and time.monotonic() < end:
                records += [taken(one) for found in consumer.poll(200).values() for one in found]
            return records[:count]
        finally:
            consumer.close()

    def join(self, member, group, topics, auto=False, instance=None, session_ms=6000, strategy="range"):
        config = {"group_instance_id": instance} if instance else {}
        self.members[member] = consumer = KafkaConsumer(
            bootstrap_servers=self.server,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=auto,
            auto_commit_interval_ms=200,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=500,
            metadata_max_age_ms=2000,
            **config,
        )
        consumer.subscribe(topics)

    def poll(self, member, ms):
        consumer, records, end = self.members[member], [], time.monotonic() + ms / 1000
        while time.monotonic() < end:
            records += [taken(one) for found in consumer.poll(100).values() for one in found]
        return records

    def assignment(self, member):
        return sorted([one.topic, one.partition] for one in self.members[member].assignment())

    def commit(self, member):
        self.members[member].commit()

    def pause(self, member, topic, partition):
        self.members[member].pause(TopicPartition(topic, partition))

    def resume(self, member, topic, partition):
        self.members[member].resume(TopicPartition(topic, partition))

    def seek(self, member, topic, partition, offset):
        self.members[member].seek(TopicPartition(topic, partition), offset)

    def leave(self, member):
        self.members.pop(member).close(autocommit=False)

    def groups(self):
        return sorted(found["group_id"] for found in self.admin.list_groups())

    def describe_group(self, group):
        found = self.admin.describe_groups([group])[group]
        return {"state": found["group_state"].lower(), "members": len(found["members"])}

    def committed(self, group):
        found = self.admin.list_group_offsets([group])[group]
        return sorted([where.topic, where.partition, place.offset] for where, place in found.items())

    def delete_group(self, group):
        check(self.admin.delete_groups([group]))

    def transaction(self):
        producer = KafkaProducer(bootstrap_servers=self.server, transactional_id="t", max_block_ms=10_000)
        try:
            producer.init_transactions()
        finally:
            producer.close(timeout=1)


driver.main(KafkaPython)
