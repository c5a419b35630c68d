const { Kafka } = require('kafkajs')
const kafka = new Kafka({ brokers: [process.env.BROKER || '127.0.0.1:9092'] })

async function main() {
  const producer = kafka.producer()
  await producer.connect()
  await producer.send({ topic: 'chat-js', messages: [{ key: 'me', value: 'hello from kafkajs' }] })
  const consumer = kafka.consumer({ groupId: 'readers' })
  await consumer.connect()
  await consumer.subscribe({ topics: ['chat-js'], fromBeginning: true })
  await consumer.run({ eachMessage: async ({ message }) => { console.log(`${message.key}: ${message.value}`); process.exit() } })
}

main()
