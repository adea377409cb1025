// Node's own HTTP/2 through the gateway: WebSockets by extended CONNECT (RFC 8441), tunnels of a forward proxy, a drain.
// Arguments: the address and certificates as JSON, the name of a scene, and what the scene needs as JSON.
// Prints the scene's result as JSON; a scene that fails prints its error and exits with 1.
'use strict'

const crypto = require('node:crypto')
const fs = require('node:fs')
const http2 = require('node:http2')
const tls = require('node:tls')
const { once } = require('node:events')

const words = JSON.parse(process.argv[2])
const scene = process.argv[3]
const given = JSON.parse(process.argv[4] || '{}')

function connect() {
  const show = words.cert ? { cert: fs.readFileSync(words.cert), key: fs.readFileSync(words.key) } : {}
  return http2.connect(words.url, { ca: fs.readFileSync(words.ca), ...show })
}

// --- WebSocket frames (RFC 6455, 5), of a client: masked, in as many pieces as asked for --------------------------

const TEXT = 1
const BINARY = 2
const CLOSE = 8
const PING = 9
const PONG = 10

function frame(opcode, payload, isFinal = true) {
  const data = Buffer.from(payload)
  const head = [(isFinal ? 0x80 : 0) | opcode]
  if (data.length < 126) head.push(0x80 | data.length)
  else if (data.length < 65536) head.push(0x80 | 126, data.length >> 8, data.length & 255)
  else head.push(0x80 | 127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((shift) => (data.length >>> shift) & 255))
  const mask = crypto.randomBytes(4)
  return Buffer.concat([Buffer.from(head), mask, data.map((byte, at) => byte ^ mask[at & 3])])
}

class Socket {
  constructor(stream) {
    this.stream = stream
    this.buffer = Buffer.alloc(0)
    this.waiting = []
    this.frames = []
    this.hasEnded = false
    stream.on('data', (data) => {
      this.buffer = Buffer.concat([this.buffer, data])
      for (let found; (found = this.take()); ) this.frames.push(found)
      this.wake()
    })
    const end = () => {
      this.hasEnded = true
      this.wake()
    }
    stream.on('end', end)
    stream.on('close', end)
    stream.on('error', end)
  }

  wake() {
    for (const resolve of this.waiting.splice(0)) resolve()
  }

  take() {
    const data = this.buffer
    if (data.length < 2) return null
    let length = data[1] & 127
    let at = 2
    if (length === 126) {
      if (data.length < 4) return null
      length = data.readUInt16BE(2)
      at = 4
    } else if (length === 127) {
      if (data.length < 10) return null
      length = Number(data.readBigUInt64BE(2))
      at = 10
    }
    if (data.length < at + length) return null
    this.buffer = data.subarray(at + length)
    return { final: data[0] >= 128, opcode: data[0] & 15, payload: data.subarray(at, at + length) }
  }

  async next() {
    while (!this.frames.length) {
      if (this.hasEnded) throw new Error('the stream has ended')
      await new Promise((resolve) => this.waiting.push(resolve))
    }
    return this.frames.shift()
  }

  // A whole message, as text or bytes; control frames are returned as they are.
  async message() {
    const first = await this.next()
    if (first.opcode >= CLOSE) return first
    const parts = [first.payload]
    for (let last = first; !last.final; ) {
      last = await this.next()
      parts.push(last.payload)
    }
    return { opcode: first.opcode, payload: Buffer.concat(parts) }
  }

  say(opcode, payload, isFinal) {
    this.stream.write(frame(opcode, payload, isFinal))
  }
}

function told(closing) {
  return {
    code: closing.payload.length ? closing.payload.readUInt16BE(0) : null,
    reason: closing.payload.subarray(2).toString(),
  }
}

async function settled(session) {
  if (!session.remoteSettings || session.remoteSettings.enableConnectProtocol === undefined) {
    await once(session, 'remoteSettings')
  }
}

async function ask(session, path, more = {}) {
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':path': path,
    'sec-websocket-version': '13',
    ...more,
  })
  const [headers] = await once(stream, 'response')
  return { stream, headers, status: headers[':status'] }
}

async function body(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return Buffer.concat(parts).toString()
}

const scenes = {
  // Texts and bytes there and back, in pieces, a ping, and a close by the target.
  async echo() {
    const session = connect()
    await settled(session)
    const { stream, headers, status } = await ask(session, given.path, given.headers)
    const socket = new Socket(stream)
    const echoed = []
    for (const text of given.texts) {
      socket.say(TEXT, text)
      echoed.push((await socket.message()).payload.toString())
    }
    const bytes = crypto.randomBytes(300000)
    socket.say(BINARY, bytes.subarray(0, 100000), false)
    socket.say(0, bytes.subarray(100000))
    const isSame = bytes.equals((await socket.message()).payload)
    socket.say(PING, 'are you there')
    const pong = await socket.message()
    socket.say(TEXT, 'close')
    const closing = told(await socket.message())
    socket.say(CLOSE, Buffer.from([closing.code >> 8, closing.code & 255]))
    stream.end()
    if (!stream.closed) await once(stream, 'close')
    const result = {
      announced: session.remoteSettings.enableConnectProtocol,
      status,
      headers: Object.keys(headers),
      protocol: headers['sec-websocket-protocol'] || null,
      echoed,
      isSame,
      pong: pong.opcode === PONG && pong.payload.toString(),
      closing,
      code: stream.rstCode,
    }
    session.close()
    return result
  },

  // What is refused: status and body. The connection is of use behind it.
  async refused() {
    const session = connect()
    await settled(session)
    const { stream, status } = await ask(session, given.path, given.headers)
    const text = await body(stream)
    const again = session.request({ ':path': given.next })
    const [headers] = await once(again, 'response')
    await body(again)
    session.close()
    return { status, text, next: headers[':status'] }
  },

  // Many at a time on one connection, each with its own messages.
  async many() {
    const session = connect()
    await settled(session)
    const results = await Promise.all(
      Array.from({ length: given.count }, async (_, number) => {
        const { stream, status } = await ask(session, given.path)
        const socket = new Socket(stream)
        for (let turn = 0; turn < 3; turn++) {
          socket.say(TEXT, `${number} ${turn}`)
          const echoed = (await socket.message()).payload.toString()
          if (echoed !== `${number} ${turn}`) throw new Error(`${echoed} on ${number}`)
        }
        socket.say(CLOSE, Buffer.from([3, 232]))
        const closing = told(await socket.message())
        stream.end()
        return [status, closing.code]
      })
    )
    session.close()
    return results
  },

  // What the gateway says last: waits for its close.
  async last() {
    const session = connect()
    await settled(session)
    const { stream } = await ask(session, given.path, given.headers)
    const socket = new Socket(stream)
    socket.say(TEXT, 'hello')
    await socket.message()
    process.stderr.write('open\n')
    const closing = told(await socket.message())
    if (!stream.closed) await once(stream, 'close')
    session.close()
    return { closing, code: stream.rstCode }
  },

  // Tunnels of the forward proxy, several at a time on one connection; in each a request by HTTP/1.1.
  async tunnels() {
    const session = connect()
    const results = await Promise.all(
      given.asked.map(async (one) => {
        const headers = { ':method': 'CONNECT', ':authority': one.authority }
        if (one.token) headers['proxy-authorization'] = `Bearer ${one.token}`
        const stream = session.request(headers)
        const [answer] = await once(stream, 'response')
        if (answer[':status'] !== 200) return { status: answer[':status'], text: await body(stream) }
        const inside = tls.connect({ socket: stream, ca: fs.readFileSync(given.ca), servername: one.name })
        await once(inside, 'secureConnect')
        inside.write(`GET ${one.path} HTTP/1.1\r\nHost: ${one.name}\r\nConnection: close\r\n\r\n`)
        const text = await body(inside)
        return { status: 200, text: text.slice(0, 15), body: text.slice(text.indexOf('\r\n\r\n') + 4) }
      })
    )
    session.close()
    return results
  },

  // A drain while an answer is under way: what is heard of it, and whether the answer comes whole.
  async drain() {
    const session = connect()
    const goaways = []
    session.on('goaway', (code, last) => goaways.push([code, last]))
    const stream = session.request({ ':path': given.path })
    await once(stream, 'response')
    process.stderr.write('open\n')
    const text = await body(stream)
    if (!session.closed) await once(session, 'close')
    return { goaways, end: text.trim().split('\n').pop(), code: stream.rstCode }
  },
}

scenes[scene]().then(
  (result) => {
    process.stdout.write(JSON.stringify(result === undefined ? null : result), () => process.exit(0))
  },
  (error) => {
    process.stderr.write(`${error.stack}\n`)
    process.exit(1)
  }
)
