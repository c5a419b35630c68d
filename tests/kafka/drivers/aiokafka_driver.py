"""aiokafka."""

import asyncio
import threading
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, for_code

import driver

WAIT_S = 20
WAIT_MS = WAIT_S * 1000
START_TRIES = 10


def taken(one):
    return driver.record(one.partition, one.offset, one.key, one.value, one.headers, one.timestamp)


def check(codes):
    for code in codes:
        if code:
            raise for_code(code)()


async def started(make):
    """aiokafka gives up when its very first connection is cut; who uses it tries again."""
    tries = 1
    while True:
        client = make()
        try:
            await client.start()
            return client
        except KafkaConnectionError:
            await client.stop()
            if tries == START_TRIES:
                raise
            tries += 1


class AioKafka:
    def __init__(self, server):
        self.server = server
        self.members = {}
        self.loop = asyncio.new_event_loop()
        # It runs between requests, too: a member's heartbeats need it.
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def call(self, function, *arguments):
        async def work():
            return function(*arguments)

        return self.run(work())

    def ask(self, use):
        async def work():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.server)
            await admin.start()
            try:
                return await use(admin)
            finally:
                await admin.close()

        return self.run(work())

    def create(self, topic, partitions, configs):
        wanted = [NewTopic(topic, partitions, 1, topic_configs=configs)]
        answer = self.ask(lambda admin: admin.create_topics(wanted, timeout_ms=WAIT_MS))
        check(one[1] for one in answer.topic_errors)

    def topics(self):
        return sorted(self.ask(lambda admin: admin.list_topics()))

    def describe(self, topic):
        [found] = self.ask(lambda admin: admin.describe_topics([topic]))
        check([found["error_code"]])
        return {"partitions": len(found["partitions"])}

    def add_partitions(self, topic, total):
        wanted = {topic: NewPartitions(total)}
        answer = self.ask(lambda admin: admin.create_partitions(wanted, timeout_ms=WAIT_MS))
        check(one[1] for one in answer.topic_errors)

    def delete(self, topic):
        answer = self.ask(lambda admin: admin.delete_topics([topic], timeout_ms=WAIT_MS))
        check(one[1] for one in answer.topic_error_codes)

    def configs(self, topic):
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic)]
        [answer] = self.ask(lambda admin: admin.describe_configs(asked))
        resource = answer.resources[0]
        check([resource[0]])
        return {entry[0]: entry[1] for entry in resource[4]}

    def alter_config(self, topic, key, value):
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})]
        [answer] = self.ask(lambda admin: admin.alter_configs(wanted))
        check(one[0] for one in answer.resources)

    def delete_records(self, topic, partition, before):
        wanted = {TopicPartition(topic, partition): RecordsToDelete(before)}
        self.ask(lambda admin: admin.delete_records(wanted, timeout_ms=WAIT_MS))

    async def consumer(self, **config):
        consumer = AIOKafkaConsumer(bootstrap_servers=self.server, **config)
        await consumer.start()
        return consumer

    def offset(self, topic, partition, at):
        where = TopicPartition(topic, partition)

        async def work():
            consumer = await self.consumer()
            try:
                if at == "earliest":
                    return (await consumer.beginning_offsets([where]))[where]
                if at == "latest":
                    return (await consumer.end_offsets([where]))[where]
                found = (await consumer.offsets_for_times({where: at}))[where]
                return -1 if found is None else found.offset
            finally:
                await consumer.stop()

        return self.run(work())

    def produce(self, topic, records, partition=None, codec="none", acks="all", idempotent=False):
        async def work():
            def make():
                return AIOKafkaProducer(
                    bootstrap_servers=self.server,
                    compression_type=None if codec == "none" else codec,
                    acks=acks,
                    enable_idempotence=idempotent,
                    linger_ms=5,
                    request_timeout_ms=60_000,
                    retry_backoff_ms=100,
                )

            producer = await started(make)
            try:
                sent = [
                    await producer.send(
                        topic,
                        key=driver.to_bytes(one["key"]),
                        value=driver.to_bytes(one["value"]),
                        headers=[(name, driver.to_bytes(data)) for name, data in one["headers"]],
                        timestamp_ms=one["timestamp"],
                        partition=partition,
                    )
                    for one in records
                ]
                return len(await asyncio.gather(*sent))
            finally:
                await producer.stop()

        return self.run(work())

    def read(self, topic, partition, start, count):
        where = TopicPartition(topic, partition)

        async def work():
            consumer = await self.consumer(enable_auto_commit=False, auto_offset_reset="earliest")
            try:
                consumer.assign([where])
                place = start
                if isinstance(start, dict):
                    place = (await consumer.offsets_for_times({where: start["time"]}))[where].offset
                if place == "earliest":
                    await consumer.seek_to_beginning(where)
                elif place == "latest":
                    await consumer.seek_to_end(where)
                else:
                    consumer.seek(where, place)
                records, end = [], time.monotonic() + WAIT_S
                while len(records) < count and time.monotonic() < end:
                    found = await consumer.getmany(timeout_ms=200)
                    records += [taken(one) for batch in found.values() for one in batch]
                return records[:count]
            finally:
                await consumer.stop()

        return self.run(work())

    def join(self, member, group, topics, auto=False, instance=None, session_ms=6000, strategy="range"):
        async def work():
            consumer = AIOKafkaConsumer(
                *topics,
                bootstrap_servers=self.server,
                group_id=group,
                group_instance_id=instance,
                auto_offset_reset="earliest",
                enable_auto_commit=auto,
                auto_commit_interval_ms=200,
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=500,
                metadata_max_age_ms=2000,
            )
            await consumer.start()
            return consumer

        self.members[member] = self.run(work())

    def poll(self, member, ms):
        async def work():
            records, end = [], time.monotonic() + ms / 1000
            while time.monotonic() < end:
                found = await self.members[member].getmany(timeout_ms=100)
                records.extend(taken(one) for batch in found.values() for one in batch)
            return records

        return self.run(work())

    def assignment(self, member):
        return sorted([one.topic, one.partition] for one in self.members[member].assignment())

    def commit(self, member):
        self.run(self.members[member].commit())

    def pause(self, member, topic, partition):
        self.call(self.members[member].pause, TopicPartition(topic, partition))

    def resume(self, member, topic, partition):
        self.call(self.members[member].resume, TopicPartition(topic, partition))

    def seek(self, member, topic, partition, offset):
        self.call(self.members[member].seek, TopicPartition(topic, partition), offset)

    def leave(self, member):
        self.run(self.members.pop(member).stop())

    def groups(self):
        return sorted(found[0] for found in self.ask(lambda admin: admin.list_consumer_groups()))

    def describe_group(self, group):
        [answer] = self.ask(lambda admin: admin.describe_consumer_groups([group]))
        found = answer.groups[0]
        check([found[0]])
        return {"state": found[2].lower(), "members": len(found[5])}

    def committed(self, group):
        found = self.ask(lambda admin: admin.list_consumer_group_offsets(group))
        return sorted([where.topic, where.partition, place.offset] for where, place in found.items())

    def delete_group(self, group):
        raise driver.Unsupported("aiokafka lists and describes groups and deletes none")

    def transaction(self):
        async def work():
            producer = AIOKafkaProducer(bootstrap_servers=self.server, transactional_id="t")
            try:
                await asyncio.wait_for(producer.start(), 10)
            finally:
                await asyncio.wait_for(producer.stop(), 5)

        self.run(work())


driver.main(AioKafka)
