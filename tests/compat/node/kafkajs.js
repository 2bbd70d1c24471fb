// kafkajs says what holds: `kafkajs.js NODE_MODULES`, called by ../run.
//
// kafkajs brings gzip; snappy, LZ4 and Zstandard are plugged in from packages that need no compiler. Its producer is
// taken as it is by default, not idempotent, so a record may come twice around a restart but never be missing.
'use strict'

const { createRequire } = require('node:module')
const { execSync } = require('node:child_process')
const { isDeepStrictEqual } = require('node:util')
const fs = require('node:fs')
const library = createRequire(process.argv[2] + '/')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = library('kafkajs')
const lz4 = library('lz4-napi')
const zstd = library('@bokuweb/zstd-wasm')

const BOOTSTRAP = process.env.CHRONIK_COMPAT_BOOTSTRAP
const CA = process.env.CHRONIK_COMPAT_CA // where the broker speaks TLS
const CONTROL = process.env.CHRONIK_COMPAT_CONTROL
const RUN = Date.now().toString(36)
// Past, but within every retention time that a topic here has.
const BASE_TIME = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const CLAIM_MS_MAX = 150_000
const PATIENCE_MS = 60_000
const CLAIMS_AT_ONCE = 4

CompressionCodecs[CompressionTypes.Snappy] = library('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({
  clientId: 'compat', brokers: [BOOTSTRAP], logLevel: logLevel.NOTHING, ssl: CA ? { ca: [fs.readFileSync(CA)] } : false,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 150 },
})
const admin = kafka.admin()
const producer = kafka.producer({ allowAutoTopicCreation: true })

// --- checks ---------------------------------------------------------------------------------------

function check(holds, otherwise) {
  if (!holds) throw new Error(otherwise)
}

const show = thing => JSON.stringify(thing, (_, value) => value === undefined ? 'undefined' : value)?.slice(0, 300)

function same(expected, got, what) {
  check(isDeepStrictEqual(expected, got), `${what}: expected ${show(expected)}, got ${show(got)}`)
}

const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

async function eventually(what, ask) {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    const answer = await ask()
    if (answer) return answer
    check(Date.now() < end, `not within ${PATIENCE_MS} ms: ${typeof what === 'function' ? what() : what}`)
    await pause(20)
  }
}

async function refused(type, action) {
  let got = 'nothing'
  try {
    await action()
  } catch (error) {
    const types = [error, error.cause, ...(error.errors ?? []), ...(error.groups ?? []).map(one => one.error)].map(one => one?.type)
    if (types.includes(type)) return
    got = `${error} ${show(types)}`
  }
  throw new Error(`expected ${type}, got ${got}`)
}

// --- records --------------------------------------------------------------------------------------

const name = hint => `compat-kafkajs-${hint}-${RUN}`

async function newTopic(hint, numPartitions, configs = {}, by = admin) {
  const topic = name(hint)
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
  await by.createTopics({ waitForLeaders: false, topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }] })
  await eventually(`${topic} is usable`, async () => (await ends(topic, by).catch(() => [])).length === numPartitions)
  return topic
}

function noise(seed, length) {
  const bytes = Buffer.alloc(length)
  for (let i = 0, x = seed + 1; i < length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0
    bytes[i] = x >>> 16
  }
  return bytes
}

// Records in every shape: null, empty and filled keys and values, text that compresses and noise that does not, headers.
function samples(partitions, count) {
  const all = []
  for (let i = 0; i < count; i++) {
    const key = [null, Buffer.alloc(0), Buffer.from(`key-${i}`)][i % 3]
    const text = Buffer.from(`value ${i} äöü `.repeat(1 + i % 40))
    const value = [null, Buffer.alloc(0), noise(i, 1 + i % 700), text, text][i % 5]
    const headers = [{}, { empty: Buffer.alloc(0) }, { same: [Buffer.from('1'), Buffer.from('2')], noise: noise(i, 30) }, { schlüssel: Buffer.from(`${i}`) }][i % 4]
    all.push({ partition: i % partitions, key, value, headers, timestamp: String(BASE_TIME + i * 1000) })
  }
  return all
}

const large = time => [Buffer.alloc(0), Buffer.alloc(1_000_000), noise(7, 1_000_000)].map((value, i) =>
  ({ partition: 0, key: Buffer.from('large'), value, headers: {}, timestamp: String(time + i) }))

// Sends in one request and returns the records with their offsets.
async function send(topic, codec, records) {
  const answers = await producer.send({ topic, acks: -1, compression: CompressionTypes[codec], messages: records })
  const next = new Map(answers.map(answer => [answer.partition, Number(answer.baseOffset)]))
  return records.map(record => {
    const offset = next.get(record.partition)
    next.set(record.partition, offset + 1)
    return { ...record, offset }
  })
}

async function ends(topic, by = admin) {
  const all = await by.fetchTopicOffsets(topic)
  return all.sort((a, b) => a.partition - b.partition).map(one => [Number(one.low), Number(one.high)])
}

const received = (partition, message) => ({
  partition, key: message.key, value: message.value, headers: message.headers, timestamp: message.timestamp, offset: Number(message.offset),
})

// Reads partitions from given offsets until `count` records are there. kafkajs reads only as a member of a group.
async function read(topic, starts, count) {
  const consumer = kafka.consumer({ groupId: `${topic}-read-${Math.random()}`, maxWaitTimeInMs: 100, maxBytesPerPartition: 3_000_000 })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  const got = []
  await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => { got.push(received(partition, message)) } })
  for (const [partition, offset] of starts) consumer.seek({ topic, partition, offset: String(offset) })
  const wanted = () => got.filter(one => one.offset >= (starts.find(([partition]) => partition === one.partition)?.[1] ?? 0))
  try {
    await eventually(() => `${count} records are read, not ${wanted().length}`, () => wanted().length >= count)
  } finally {
    await consumer.disconnect()
  }
  const unique = new Map(wanted().map(one => [`${one.partition}@${one.offset}`, one]))
  return [...unique.values()].sort((a, b) => a.partition - b.partition || a.offset - b.offset)
}

function compare(expected, got) {
  same(expected.length, got.length, 'number of records')
  const sorted = [...expected].sort((a, b) => a.partition - b.partition || a.offset - b.offset)
  for (const [i, one] of sorted.entries()) {
    const place = `${one.partition}@${one.offset}`
    for (const part of ['partition', 'offset', 'key', 'value', 'timestamp']) same(one[part], got[i][part], `${part} at ${place}`)
    same({ ...one.headers }, { ...got[i].headers }, `headers at ${place}`)
  }
}

// --- groups ---------------------------------------------------------------------------------------

async function join(topic, groupId, got) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 300, sessionTimeout: 10_000, rebalanceTimeout: 10_000, maxWaitTimeInMs: 100, metadataMaxAge: 3000 })
  const member = { owned: [], close: () => consumer.disconnect() }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { member.owned = payload.memberAssignment[topic] ?? [] })
  consumer.on(consumer.events.REBALANCING, () => { member.owned = [] })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({ autoCommitThreshold: 1, eachMessage: async ({ partition, message }) => got(received(partition, message)) })
  return member
}

async function settled(partitions, ...members) {
  await eventually(() => `${members.length} members share ${partitions} partitions: ${show(members.map(one => one.owned))}`, () =>
    members.every(one => one.owned.length) && isDeepStrictEqual(members.flatMap(one => one.owned).sort(), [...Array(partitions).keys()]))
}

// Sends numbered records, a few in each request, until told to stop; what was acknowledged is kept with its offset.
function load(topic, partitions) {
  const acked = new Map()
  let running = true
  const work = async () => {
    for (let i = 0; running;) {
      const records = []
      for (let k = 0; k < partitions * 5; k++, i++) records.push({ partition: i % partitions, key: null, value: Buffer.from(`v${i}`) })
      for (const one of await send(topic, 'GZIP', records)) acked.set(`${one.value}`, one)
      await pause(5)
    }
  }
  const done = work()
  done.catch(() => {})
  return { acked, stop: () => { running = false; return done }, done }
}

// --- claims ---------------------------------------------------------------------------------------

const CODECS = ['None', 'GZIP', 'Snappy', 'LZ4', 'ZSTD']

async function shapes(codec) {
  const topic = await newTopic(`shapes-${codec}`, 3)
  const sent = await send(topic, codec, samples(3, 300))
  for (const one of large(BASE_TIME + 1_000_000)) sent.push(...await send(topic, codec, [one]))
  same([[0, 103], [0, 100], [0, 100]], await ends(topic), 'ends')
  compare(sent, await read(topic, [], sent.length))
}

async function byTime() {
  const topic = await newTopic('times', 2)
  const sent = await send(topic, 'None', samples(1, 60))
  for (const [millis, expected] of [[-5, 0], [0, 0], [1, 1], [42_000, 42], [42_001, 43], [59_000, 59]]) {
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, BASE_TIME + millis)
    same(String(expected), found.find(one => one.partition === 0).offset, `offset at ${millis} ms`)
  }
  compare(sent.slice(43), await read(topic, [[0, 43]], 17))
  const late = await admin.fetchTopicOffsetsByTimestamp(topic, BASE_TIME + 10_000_000)
  same('60', late.find(one => one.partition === 0).offset, 'offset after the last record: kafkajs takes the end')
}

async function seek() {
  const topic = await newTopic('seek', 1)
  const sent = await send(topic, 'None', samples(1, 200))
  for (const start of [150, 3]) compare(sent.slice(start), await read(topic, [[0, start]], 200 - start))
}

async function appendTime() {
  const topic = await newTopic('append-time', 1, { 'message.timestamp.type': 'LogAppendTime' })
  const before = Date.now()
  await send(topic, 'None', samples(1, 20))
  for (const one of await read(topic, [], 20)) check(before <= Number(one.timestamp) && Number(one.timestamp) <= Date.now(), `timestamp ${one.timestamp}`)
}

async function comeAndGo() {
  const topic = await newTopic('group', 6)
  const seen = new Set()
  const got = one => seen.add(`${one.partition}@${one.offset} ${one.value}`)
  const work = load(topic, 6)
  const members = []
  try {
    for (let i = 0; i < 3; i++) {
      members.push(await join(topic, topic, got))
      await settled(6, ...members)
    }
    await members.shift().close()
    await settled(6, ...members)
    await members.pop().close()
    await settled(6, ...members)
    await work.stop()
    await eventually(() => `all ${work.acked.size} records are seen, not ${seen.size}`, () => seen.size >= work.acked.size)
    for (const one of work.acked.values()) check(seen.has(`${one.partition}@${one.offset} ${one.value}`), `never seen: ${one.value}`)
  } finally {
    work.stop()
    for (const one of members) await one.close()
  }
}

async function goesOn() {
  const topic = await newTopic('goes-on', 1)
  for (const count of [30, 7]) {
    const sent = await send(topic, 'None', samples(1, count))
    const got = []
    const member = await join(topic, topic, one => got.push(one))
    await eventually(() => `${count} records are seen, not ${got.length}`, () => got.length >= count)
    await member.close()
    compare(sent, got)
  }
}

async function idempotent() {
  const topic = await newTopic('idempotent', 2)
  const own = kafka.producer({ idempotent: true })
  await own.connect()
  const records = samples(2, 100)
  for (let i = 0; i < records.length; i += 10) await own.send({ topic, acks: -1, messages: records.slice(i, i + 10) })
  await own.disconnect()
  const got = await read(topic, [], records.length)
  compare(records.map((one, i) => ({ ...one, offset: Math.floor(i / 2) })), got)
}

async function adminTopics() {
  // kafkajs asks for every topic that an admin has met: what the other claims do with theirs would fail once this one is gone.
  const admin = kafka.admin()
  await admin.connect()
  try {
    await changeTopics(admin)
  } finally {
    await admin.disconnect()
  }
}

async function changeTopics(admin) {
  const topic = await newTopic('admin', 2, { 'retention.ms': '7000000' }, admin)
  same(false, await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] }), 'whether an existing topic was created')
  await refused('INVALID_TOPIC_EXCEPTION', () => admin.createTopics({ topics: [{ topic: 'a b', numPartitions: 1 }] }))
  check((await admin.listTopics()).includes(topic), 'the topic is listed')
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const config = async name => (await admin.describeConfigs({ resources: [resource] })).resources[0].configEntries.find(one => one.configName === name).configValue
  same('7000000', await config('retention.ms'), 'retention.ms')
  // kafkajs knows only AlterConfigs, which replaces everything.
  await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'segment.bytes', value: '8000000' }] }] })
  await eventually('the new config is seen', async () => await config('segment.bytes') === '8000000')
  same('604800000', await config('retention.ms'), 'retention.ms after configs were replaced')
  await refused('INVALID_CONFIG', () => admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'no.such', value: '1' }] }] }))
  await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
  await eventually('five partitions', async () => (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length === 5)
  await send(topic, 'None', samples(1, 40))
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }] })
  same([10, 40], (await ends(topic, admin))[0], 'ends')
  const cluster = await admin.describeCluster()
  check(cluster.brokers.some(one => one.nodeId === cluster.controller) && cluster.clusterId, 'controller among the brokers')
  await admin.deleteTopics({ topics: [topic] })
  await eventually('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
}

async function adminGroups() {
  const topic = await newTopic('admin-group', 2)
  await send(topic, 'None', samples(2, 20))
  let seen = 0
  const member = await join(topic, topic, () => { seen++ })
  await settled(2, member)
  await eventually('everything is seen', () => seen === 20)
  const { groups: [described] } = await admin.describeGroups([topic])
  same(['Stable', 'RoundRobinAssigner', 1], [described.state, described.protocol, described.members.length], 'description')
  await refused('NON_EMPTY_GROUP', () => admin.deleteGroups([topic]))
  await member.close()
  check((await admin.listGroups()).groups.some(one => one.groupId === topic && one.protocolType === 'consumer'), 'the group is listed')
  await admin.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '3' }] })
  const [fetched] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
  same({ 0: '3', 1: '10' }, Object.fromEntries(fetched.partitions.map(one => [one.partition, one.offset])), 'offsets')
  await admin.deleteGroups([topic])
  await refused('GROUP_ID_NOT_FOUND', () => admin.deleteGroups([topic]))
}

async function restart() {
  const topic = await newTopic('restart', 3)
  const seen = new Set()
  const member = await join(topic, topic, one => seen.add(`${one.partition}@${one.offset} ${one.value}`))
  const work = load(topic, 3)
  const { acked } = work
  await eventually('the first acknowledgements', () => acked.size >= 1500)
  execSync(`${CONTROL} kill`)
  const before = acked.size
  execSync(`${CONTROL} start`)
  await eventually(() => `acknowledgements after the restart: ${acked.size - before}`, () => acked.size >= before + 1500)
  await work.stop()
  const high = (await eventually('the ends are told after the restart', () => ends(topic).catch(() => null))).map(([, end]) => end)
  const count = high[0] + high[1] + high[2]
  const got = await read(topic, [], count)
  same(count, got.length, 'records read')
  const following = [0, 1, 2]
  const values = new Set()
  for (const one of got) {
    const value = `${one.value}`
    if (!values.has(value)) {
      same(`v${following[one.partition]}`, value, `value at ${one.partition}@${one.offset}`)
      following[one.partition] += 3
    }
    values.add(value)
    if (acked.get(value)?.offset === one.offset) acked.delete(value)
  }
  same(0, acked.size, 'acknowledged records that are not at their place')
  await eventually(() => `the group sees all ${count} records, not ${seen.size}`, () => seen.size === count)
  await member.close()
}

// --- running --------------------------------------------------------------------------------------

async function attempt([text, body]) {
  let timer
  try {
    await Promise.race([body(), new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`not decided within ${CLAIM_MS_MAX} ms`)), CLAIM_MS_MAX) })])
    console.log(`ok kafkajs: ${text}`)
    return true
  } catch (error) {
    const where = (error.stack ?? '').split('\n').filter(line => line.includes('kafkajs.js:')).map(line => line.trim().replace(/\(?\/\S*\//, ''))
    console.log(`FAIL kafkajs: ${text}\n  ${String(error).slice(0, 600).replaceAll('\n', '\n  ')}\n    ${where.join('\n    ')}`)
    return false
  } finally {
    clearTimeout(timer)
  }
}

async function main() {
  await zstd.init()
  await admin.connect()
  await producer.connect()
  const claims = [
    ...CODECS.map(codec => [`records of every shape, empty to 1 MB, come back equal through ${codec}`, () => shapes(codec)]),
    ["LogAppendTime stamps are the broker's", appendTime],
    ['offsets are found by time, and reading starts there', byTime],
    ['reading starts at any offset', seek],
    ['members that come and go under load share the partitions and miss nothing', comeAndGo],
    ['a group goes on where it committed', goesOn],
    ['an idempotent producer writes each record once', idempotent],
    ['admin: topics are created, described, grown, configured and deleted', adminTopics],
    ['admin: groups are listed, described, moved and deleted', adminGroups],
  ]
  let good = true
  const worker = async () => {
    while (claims.length) good = await attempt(claims.shift()) && good
  }
  await Promise.all(Array.from({ length: CLAIMS_AT_ONCE }, worker))
  const text = 'what was acknowledged around a kill -9 is read, and a group goes on'
  if (CONTROL) good = await attempt([text, restart]) && good
  else console.log(`skip kafkajs: ${text}`)
  process.exit(good ? 0 : 1)
}

main().catch(error => {
  console.log(`FAIL kafkajs: the suite can start\n  ${error}`)
  process.exit(1)
})
