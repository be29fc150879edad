'use strict';

// Holds one store of one package and does with it what the tests ask for. Each
// line of standard input is {id, method, args}, each line of output
// {id, result} or {id, error}. It ends with its input.
//
//   node driver.js '{"package": …, "database": …, "settings": …}'

const stores = require('./stores');

const config = JSON.parse(process.argv[2]);

// The middlewares do not hand a store what it gave them, but sessions whose
// cookie was brought to life again.
function expressMethods({ store, prune }) {
  const inflate = (sid, sess) => store.createSession({ sessionID: sid, sessionStore: store }, sess);
  const methods = {
    get: sid => stores.callback(store, 'get', sid),
    set: (sid, sess) => stores.callback(store, 'set', sid, inflate(sid, sess)),
    touch: (sid, sess) => stores.callback(store, 'touch', sid, inflate(sid, sess)),
    destroy: sid => stores.callback(store, 'destroy', sid),
    prune,
  };
  for (const name of ['length', 'all', 'ids', 'clear']) {
    if (typeof store[name] === 'function') methods[name] = () => stores.callback(store, name);
  }
  return methods;
}

function koaMethods({ store, prune }) {
  const MiddlewareStore = require('koa-generic-session/lib/store');
  const wrapped = new MiddlewareStore(store, { ...config.settings.middleware });
  return {
    get: sid => wrapped.get(sid),
    set(sid, sess) {
      if (sess.cookie && sess.cookie.expires) sess.cookie.expires = new Date(sess.cookie.expires);
      return wrapped.set(sid, sess);
    },
    destroy: sid => wrapped.destroy(sid),
    prune,
  };
}

async function open() {
  const { package: name, database, settings } = config;
  if (name in stores.koa) return koaMethods(await stores.koa[name](database, settings));
  return expressMethods(await stores.express[name](database, settings));
}

async function answer(methods, line) {
  const { id, method, args } = JSON.parse(line);
  let reply;
  try {
    if (!(method in methods)) throw new Error(`${config.package} has no ${method}`);
    reply = { id, result: await methods[method](...args) };
  } catch (err) {
    reply = { id, error: String(err && err.message) };
  }
  process.stdout.write(JSON.stringify(reply) + '\n');
}

async function main() {
  const opening = open();
  let rest = '';
  process.stdin.setEncoding('utf8');
  process.stdin.on('data', async chunk => {
    // Not readline: it also splits at U+2028.
    const lines = (rest + chunk).split('\n');
    rest = lines.pop();
    const methods = await opening;
    for (const line of lines) answer(methods, line);
  });
  process.stdin.on('end', () => process.exit(0)); // some stores have timers that go on
  process.stdout.write(JSON.stringify({ methods: Object.keys(await opening) }) + '\n');
}

main();
