"""confluent-kafka: librdkafka from Python."""

import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
from confluent_kafka import ConsumerGroupTopicPartitions

import driver

WAIT_S = 20


def taken(message):
    return driver.record(
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        message.headers(),
        message.timestamp()[1],
    )


def arrived(message):
    """Lost connections are told like records, and mended by the client itself."""
    error = message.error()
    if error is None:
        return True
    if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
        return False
    raise KafkaException(error)


class Confluent:
    def __init__(self, server):
        self.server = server
        self.admin = AdminClient({"bootstrap.servers": server})
        self.members = {}

    def wait(self, futures):
        return [future.result(WAIT_S) for future in futures.values()]

    def create(self, topic, partitions, configs):
        self.wait(self.admin.create_topics([NewTopic(topic, partitions, 1, config=configs)], operation_timeout=WAIT_S))

    def topics(self):
        return sorted(self.admin.list_topics(timeout=WAIT_S).topics)

    def describe(self, topic):
        found = self.admin.list_topics(topic, timeout=WAIT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return {"partitions": len(found.partitions)}

    def add_partitions(self, topic, total):
        self.wait(self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete(self, topic):
        self.wait(self.admin.delete_topics([topic], operation_timeout=WAIT_S))

    def configs(self, topic):
        [entries] = self.wait(self.admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {name: entry.value for name, entry in entries.items()}

    def alter_config(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        self.wait(self.admin.incremental_alter_configs([resource]))

    def delete_records(self, topic, partition, before):
        self.wait(self.admin.delete_records([TopicPartition(topic, partition, before)]))

    def offset(self, topic, partition, at):
        spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}.get(at)
        spec = spec() if spec else OffsetSpec.for_timestamp(at)
        [found] = self.wait(self.admin.list_offsets({TopicPartition(topic, partition): spec}))
        return found.offset

    def produce(self, topic, records, partition=None, codec="none", acks="all", idempotent=False, linger_ms=5):
        outcomes = []
        producer = Producer(
            {
                "bootstrap.servers": self.server,
                "compression.type": codec,
                "acks": acks,
                "enable.idempotence": idempotent,
                "linger.ms": linger_ms,
                "message.timeout.ms": 60_000,
                "reconnect.backoff.max.ms": 200,
            }
        )
        for one in records:
            where = {} if partition is None else {"partition": partition}
            producer.produce(
                topic,
                key=driver.to_bytes(one["key"]),
                value=driver.to_bytes(one["value"]),
                headers=[(name, driver.to_bytes(data)) for name, data in one["headers"]],
                timestamp=one["timestamp"] or 0,
                on_delivery=lambda error, message: outcomes.append((error, message.offset())),
                **where,
            )
            producer.poll(0)
        left = producer.flush(90)
        failed = [str(error) for error, _ in outcomes if error]
        if left or failed:
            raise RuntimeError(f"{left} not delivered, failed: {failed[:3]}")
        return len(outcomes)

    def read(self, topic, partition, start, count):
        consumer = Consumer(
            {"bootstrap.servers": self.server, "group.id": f"reads-{topic}", "enable.auto.commit": False}
        )
        try:
            if isinstance(start, dict):
                [found] = consumer.offsets_for_times([TopicPartition(topic, partition, start["time"])], WAIT_S)
                start = found.offset
            at = {"earliest": OFFSET_BEGINNING, "latest": OFFSET_END}.get(start, start)
            consumer.assign([TopicPartition(topic, partition, at)])
            return self.gather(consumer, count)
        finally:
            consumer.close()

    def gather(self, consumer, count):
        records, end = [], time.monotonic() + WAIT_S
        while len(records) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is not None and arrived(message):
                records.append(taken(message))
        return records

    def join(self, member, group, topics, auto=False, instance=None, session_ms=6000, strategy="range"):
        config = {
            "bootstrap.servers": self.server,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": auto,
            "auto.commit.interval.ms": 200,
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": 500,
            "partition.assignment.strategy": strategy,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        if instance:
            config["group.instance.id"] = instance
        self.members[member] = consumer = Consumer(config)
        consumer.subscribe(topics)

    def poll(self, member, ms):
        consumer, records, end = self.members[member], [], time.monotonic() + ms / 1000
        while (left := end - time.monotonic()) > 0:
            for message in consumer.consume(500, timeout=min(left, 0.1)):
                if arrived(message):
                    records.append(taken(message))
        return records

    def assignment(self, member):
        return sorted([one.topic, one.partition] for one in self.members[member].assignment())

    def commit(self, member):
        try:
            self.members[member].commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].name() != "_NO_OFFSET":
                raise

    def pause(self, member, topic, partition):
        self.members[member].pause([TopicPartition(topic, partition)])

    def resume(self, member, topic, partition):
        self.members[member].resume([TopicPartition(topic, partition)])

    def seek(self, member, topic, partition, offset):
        self.members[member].seek(TopicPartition(topic, partition, offset))

    def leave(self, member):
        self.members.pop(member).close()

    def groups(self):
        return sorted(found.group_id for found in self.admin.list_consumer_groups().result(WAIT_S).valid)

    def describe_group(self, group):
        [found] = self.wait(self.admin.describe_consumer_groups([group]))
        return {"state": found.state.name.replace("_", "").lower(), "members": len(found.members)}

    def committed(self, group):
        asked = [ConsumerGroupTopicPartitions(group)]
        [found] = self.wait(self.admin.list_consumer_group_offsets(asked))
        return sorted([one.topic, one.partition, one.offset] for one in found.topic_partitions)

    def delete_group(self, group):
        self.wait(self.admin.delete_consumer_groups([group]))

    def transaction(self):
        producer = Producer({"bootstrap.servers": self.server, "transactional.id": "t"})
        producer.init_transactions(10)


driver.main(Confluent)
