// kafkajs. Operations as in driver.py.
const readline = require('readline')
const { CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const { decompress: unzstd } = require('fzstd')
const lz4 = require('lz4-napi')
const snappy = require('snappyjs')
const { ZstdCodec } = require('zstd-codec')

const WAIT_MS = 20000

// kafkajs brings gzip and leaves the others to their packages.
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async encoder => Buffer.from(snappy.compress(encoder.buffer)),
  decompress: async buffer => unsnap(buffer),
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => lz4.compressFrame(encoder.buffer),
  decompress: async buffer => lz4.decompressFrame(buffer),
})
const zstd = new Promise(resolve => ZstdCodec.run(found => resolve(new found.Simple())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(unzstd(buffer)),
})

// Plain, or in the frames of xerial's Java library.
function unsnap(buffer) {
  const magic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
  if (!buffer.subarray(0, 8).equals(magic)) return Buffer.from(snappy.uncompress(buffer))
  const parts = []
  for (let at = 16; at < buffer.length; ) {
    const bytes = buffer.readInt32BE(at)
    parts.push(Buffer.from(snappy.uncompress(buffer.subarray(at + 4, at + 4 + bytes))))
    at += 4 + bytes
  }
  return Buffer.concat(parts)
}

class Unsupported extends Error {}
const bytes = text => (text === null ? null : Buffer.from(text, 'base64'))
const text = data => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))

function taken(partition, message) {
  const headers = []
  for (const [name, value] of Object.entries(message.headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) headers.push([name, text(one)])
  }
  const { key, value, timestamp, offset } = message
  return { partition, offset: Number(offset), key: text(key), value: text(value), headers, timestamp: Number(timestamp) }
}

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

class KafkaJs {
  constructor(server) {
    this.kafka = new Kafka({ brokers: [server], clientId: 'kafkajs', logLevel: logLevel.NOTHING, retry: { retries: 12 } })
    this.members = new Map()
  }

  async admin(use) {
    this.shared ||= (async () => {
      const admin = this.kafka.admin()
      await admin.connect()
      return admin
    })()
    return use(await this.shared)
  }

  create({ topic, partitions, configs }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const topics = [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }]
    return this.admin(async admin => {
      if (!(await admin.createTopics({ topics, waitForLeaders: true }))) throw new Error('createTopics returns false')
    })
  }
  topics() {
    return this.admin(async admin => (await admin.listTopics()).sort())
  }
  describe({ topic }) {
    return this.admin(async admin => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      return { partitions: topics[0].partitions.length }
    })
  }
  add_partitions({ topic, total }) {
    return this.admin(admin => admin.createPartitions({ topicPartitions: [{ topic, count: total }] }))
  }
  delete({ topic }) {
    return this.admin(admin => admin.deleteTopics({ topics: [topic] }))
  }
  configs({ topic }) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic }]
    return this.admin(async admin => {
      const found = await admin.describeConfigs({ resources, includeSynonyms: true })
      return Object.fromEntries(found.resources[0].configEntries.map(one => [one.configName, one.configValue]))
    })
  }
  alter_config({ topic, key, value }) {
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: topic, configEntries: [{ name: key, value }] }]
    return this.admin(admin => admin.alterConfigs({ validateOnly: false, resources }))
  }
  delete_records({ topic, partition, before }) {
    const partitions = [{ partition, offset: String(before) }]
    return this.admin(async admin => {
      // Else this admin has not heard of the topic's leader yet.
      await admin.fetchTopicOffsets(topic)
      await admin.deleteTopicRecords({ topic, partitions })
    })
  }
  offset({ topic, partition, at }) {
    return this.admin(async admin => {
      const all = typeof at === 'number' ? await admin.fetchTopicOffsetsByTimestamp(topic, at) : await admin.fetchTopicOffsets(topic)
      const found = all.find(one => one.partition === partition)
      return Number(at === 'earliest' ? found.low : found.offset)
    })
  }

  async produce({ topic, records, partition, codec = 'none', acks = 'all', idempotent = false }) {
    const types = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }
    const producer = this.kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined, allowAutoTopicCreation: true })
    await producer.connect()
    const messages = records.map(one => {
      const headers = {}
      for (const [name, value] of one.headers) headers[name] = bytes(value)
      const timestamp = one.timestamp === null ? undefined : String(one.timestamp)
      return { key: bytes(one.key), value: bytes(one.value), headers, timestamp, partition }
    })
    try {
      for (let at = 0; at < messages.length; at += 200) {
        await producer.send({
          topic,
          messages: messages.slice(at, at + 200),
          compression: CompressionTypes[types[codec]],
          acks: { 0: 0, 1: 1, all: -1 }[acks],
        })
      }
    } finally {
      await producer.disconnect()
    }
    return messages.length
  }

  // kafkajs reads in groups only.
  async read({ topic, partition, start, count }) {
    let offset = start
    if (typeof start === 'object') offset = await this.offset({ topic, partition, at: start.time })
    if (start === 'earliest' || start === 'latest') offset = await this.offset({ topic, partition, at: start })
    const groupId = `reads-${topic}-${process.pid}-${Math.random()}`
    const consumer = this.kafka.consumer({ groupId, maxWaitTimeInMs: 200 })
    const records = []
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: true,
      eachBatch: async ({ batch }) => {
        for (const message of batch.messages) {
          if (batch.partition === partition && Number(message.offset) >= offset) records.push(taken(partition, message))
        }
      },
    })
    consumer.seek({ topic, partition, offset: String(offset) })
    for (let waited = 0; records.length < count && waited < WAIT_MS; waited += 50) await sleep(50)
    await consumer.disconnect()
    return records.slice(0, count)
  }

  async join({ member, group, topics, auto = false, instance, session_ms = 6000 }) {
    if (instance) throw new Unsupported('kafkajs has no static membership')
    const consumer = this.kafka.consumer({
      groupId: group,
      sessionTimeout: session_ms,
      heartbeatInterval: 500,
      rebalanceTimeout: 10000,
      metadataMaxAge: 2000,
      maxWaitTimeInMs: 200,
    })
    const state = { consumer, records: [], places: new Map(), assignment: [] }
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      state.assignment = Object.entries(payload.memberAssignment).flatMap(([topic, list]) => list.map(one => [topic, one]))
    })
    this.members.set(member, state)
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: auto,
      autoCommitInterval: 200,
      eachMessage: async ({ topic, partition, message }) => {
        state.records.push(taken(partition, message))
        state.places.set(`${topic} ${partition}`, { topic, partition, offset: String(Number(message.offset) + 1) })
      },
    })
  }
  async poll({ member, ms }) {
    await sleep(ms)
    return this.members.get(member).records.splice(0)
  }
  async assignment({ member }) {
    return this.members.get(member).assignment.sort()
  }
  async commit({ member }) {
    const { consumer, places } = this.members.get(member)
    if (places.size > 0) await consumer.commitOffsets([...places.values()])
  }
  async pause({ member, topic, partition }) {
    this.members.get(member).consumer.pause([{ topic, partitions: [partition] }])
  }
  async resume({ member, topic, partition }) {
    this.members.get(member).consumer.resume([{ topic, partitions: [partition] }])
  }
  async seek({ member, topic, partition, offset }) {
    this.members.get(member).consumer.seek({ topic, partition, offset: String(offset) })
  }
  async leave({ member }) {
    const { consumer } = this.members.get(member)
    this.members.delete(member)
    await consumer.disconnect()
  }

  groups() {
    return this.admin(async admin => (await admin.listGroups()).groups.map(one => one.groupId).sort())
  }
  describe_group({ group }) {
    return this.admin(async admin => {
      const { groups } = await admin.describeGroups([group])
      return { state: groups[0].state.toLowerCase(), members: groups[0].members.length }
    })
  }
  committed({ group }) {
    return this.admin(async admin => {
      const found = await admin.fetchOffsets({ groupId: group })
      const all = found.flatMap(one => one.partitions.map(p => [one.topic, p.partition, Number(p.offset)]))
      return all.filter(([, , offset]) => offset >= 0).sort()
    })
  }
  delete_group({ group }) {
    return this.admin(admin => admin.deleteGroups([group]))
  }
  async transaction() {
    const producer = this.kafka.producer({ transactionalId: 't', idempotent: true, maxInFlightRequests: 1, retry: { retries: 2 } })
    await producer.connect()
    try {
      await producer.transaction()
    } finally {
      await producer.disconnect()
    }
  }
}

async function answer(driver, { op, ...request }) {
  if (typeof driver[op] !== 'function') return { unsupported: 'no such operation' }
  try {
    return { ok: (await driver[op](request)) ?? null }
  } catch (error) {
    if (error instanceof Unsupported) return { unsupported: error.message }
    const causes = (error.partitions || error.errors || error.groups || []).map(one => (one.error && one.error.type) || one.error || one).join(', ')
    return { error: `${error.name}: ${error.type || ''} ${error.message} ${causes}`, trace: error.stack }
  }
}

async function main() {
  const driver = new KafkaJs(process.argv[2])
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(driver, JSON.parse(line))) + '\n')
  }
  process.exit(0)
}

main()
