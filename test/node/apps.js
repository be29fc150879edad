'use strict';

// Serves apps whose sessions one of the packages keeps, each below its name, on
// a free port of the loopback interface. Prints which, and ends with its input.
//
//   node apps.js '{"package": …, "database": …, "settings": …, "apps": {"NAME": {"framework": "express-4", "secrets": […], "session": …}}}'

const stores = require('./stores');

const config = JSON.parse(process.argv[2]);

async function main() {
  process.stdin.on('end', () => process.exit(0)).resume(); // also before there are apps
  const apps = new Map();
  for (const [name, app] of Object.entries(config.apps)) {
    const koa = app.framework === 'koa';
    const makers = koa ? stores.koa : stores.express;
    // Each its own: a middleware leaves its options with the store.
    const { store } = await makers[config.package](config.database, config.settings);
    const session = { ...config.settings.middleware, ...app.session };
    apps.set(name, require(koa ? './koa' : './express')(app.framework, store, app.secrets, session));
  }
  const server = require('http').createServer((req, res) => {
    const [, name, rest] = /^\/([^/]+)(\/.*)$/.exec(req.url);
    req.url = rest;
    apps.get(name)(req, res);
  });
  server.listen(0, '127.0.0.1', () => {
    process.stdout.write(JSON.stringify({ port: server.address().port }) + '\n');
  });
}

main();
