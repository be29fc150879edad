'use strict';

// Serves all tests from one process. Each line of standard input is a call
// {id, on, method, args}, each line of output its answer {id, result} or
// {id, error}. On 0 are the methods below, on other numbers what they have
// opened. It ends with its input.

const http = require('http');

const opened = new Map();
let last = 0;

const methods = {
  // store opens a store of a package, and tells its number and methods.
  store: async config => keep(await require('./driver')(config)),
  // apps serves apps below /NUMBER/NAME/ of the port.
  apps: async config => keep(await require('./apps')(config)),
  // listing serves the app that a program of the documents exports.
  async listing({ path, env }) {
    Object.assign(process.env, env);
    const { app, pool } = require(path);
    return keep({ apps: new Map([['app', app]]), close: () => pool.end() });
  },
  async close(number) {
    const { close } = opened.get(number);
    opened.delete(number);
    await close();
  },
};

function keep(it) {
  opened.set(++last, it);
  return { number: last, methods: Object.keys(it.methods || {}) };
}

async function answer(line) {
  const { id, on, method, args } = JSON.parse(line);
  let reply;
  try {
    const known = on === 0 ? methods : opened.get(on).methods;
    if (!(method in known)) throw new Error(`there is no ${method}`);
    reply = { id, result: await known[method](...args) };
  } catch (err) {
    reply = { id, error: String(err && err.message) };
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
}

const server = http.createServer((req, res) => {
  const [, number, name, rest] = /^\/(\d+)\/([^/]+)(\/.*)$/.exec(req.url);
  req.url = rest;
  opened.get(Number(number)).apps.get(name)(req, res);
});

let rest = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', chunk => {
  // Not readline: it also splits at U+2028.
  const lines = (rest + chunk).split('\n');
  rest = lines.pop();
  lines.forEach(answer);
});
// connect-session-knex tells its callback of an error, and rejects as well.
process.on('unhandledRejection', err => console.error(err));
process.stdin.on('end', () => process.exit(0)); // some stores have timers that go on
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n');
});
