// Node's PostgreSQL client through the gateway. Arguments: the connection as JSON, and the name of a scene.
// Prints the scene's result as JSON; a scene that fails prints its error and exits with 1.
'use strict'

const fs = require('node:fs')
const { Client, Pool, Query } = require('pg')

const words = JSON.parse(process.argv[2])
const settings = {
  host: words.host,
  port: Number(words.port),
  user: words.user,
  database: words.dbname,
  ssl: {
    ca: fs.readFileSync(words.sslrootcert),
    cert: fs.readFileSync(words.sslcert),
    key: fs.readFileSync(words.sslkey),
  },
}

const columns = 'id, name, email, ssn, birth_date, balance'

// Collects the rows of a portal that is fetched `rows` at a time.
function inParts(client, text, values, rows) {
  return new Promise((resolve, reject) => {
    const found = []
    const query = client.query(new Query({ text, values, rows }))
    query.on('row', (row) => found.push(row))
    query.on('end', () => resolve(found))
    query.on('error', reject)
  })
}

async function refused(promise) {
  try {
    await promise
  } catch (error) {
    return { code: error.code, message: error.message, detail: error.detail, hint: error.hint }
  }
  throw new Error('this was not refused')
}

const scenes = {
  async simple(client) {
    const one = await client.query(`select ${columns} from shop.customers order by id limit 3`)
    const many = await client.query('select 1 as a; select 2 as b')
    return { rows: one.rows, fields: one.fields.map((field) => field.name), many: many.map((result) => result.rows) }
  },

  async parametrized(client) {
    const text = `select ${columns} from shop.customers where id = any($1) order by id`
    const found = await client.query(text, [[1, 2, 3]])
    const empty = await client.query('select id from shop.customers where id = $1', [-1])
    return { rows: found.rows, empty: empty.rowCount }
  },

  async prepared(client) {
    const rows = []
    for (let id = 1; id <= 30; id++) {
      const query = { name: 'by-id', text: `select ${columns} from shop.customers where id = $1`, values: [id] }
      rows.push(...(await client.query(query)).rows)
    }
    return { rows }
  },

  async binary(client) {
    const text = `select ${columns} from shop.customers order by id limit 3`
    return { rows: (await client.query({ text, values: [], binary: true })).rows }
  },

  async portal(client) {
    return { rows: await inParts(client, `select ${columns} from shop.customers where id > $1 order by id`, [0], 7) }
  },

  async errors(client) {
    const denied = await refused(client.query('select key from shop.api_keys where id = $1', [1]))
    const simple = await refused(client.query('drop table shop.orders'))
    const violated = await refused(client.query('insert into shop.products values ($1, $2, $3)', [1, 'x', 1]))
    return { denied, simple, violated, after: (await client.query('select count(*)::int as n from shop.orders')).rows }
  },

  async transaction(client) {
    await client.query('begin')
    await client.query('update shop.orders set status = $1 where id = $2 returning id', ['new', 1])
    await client.query('rollback')
    return (await client.query('select status from shop.orders where id = 1')).rows
  },

  async timeout(client) {
    await client.query("set statement_timeout = '100ms'")
    const cancelled = await refused(client.query('select pg_sleep($1)', [30]))
    await client.query('reset statement_timeout')
    return { cancelled, after: (await client.query('select 1 as one')).rows }
  },

  async notifications(client) {
    const told = new Promise((resolve) => client.on('notification', resolve))
    const noticed = new Promise((resolve) => client.on('notice', resolve))
    await client.query('listen news')
    await client.query("notify news, 'extra'")
    await client.query("do $$ begin raise notice 'hear'; end $$")
    return { payload: (await told).payload, notice: (await noticed).message }
  },

  async pool() {
    const pool = new Pool({ ...settings, max: 4 })
    const ids = Array.from({ length: 40 }, (_, index) => index + 1)
    const results = await Promise.all(
      ids.map((id) => pool.query('select id, email from shop.customers where id = $1', [id])),
    )
    await pool.end()
    return { rows: results.map((result) => result.rows[0]) }
  },
}

async function main() {
  const client = new Client(settings)
  await client.connect()
  try {
    console.log(JSON.stringify(await scenes[process.argv[3]](client)))
  } finally {
    await client.end()
  }
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
