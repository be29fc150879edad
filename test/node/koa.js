'use strict';

const Koa = require('koa');
const session = require('koa-generic-session');

const routes = {
  'POST /change'(ctx) {
    ctx.session[ctx.query.key] = ctx.query.value;
    ctx.status = 204;
  },
  'GET /show'(ctx) {
    const { cookie, ...values } = ctx.session;
    ctx.body = values;
  },
  'POST /touch'(ctx) {
    ctx.status = 204;
  },
  'POST /logout': unset,
  'POST /unset': unset,
};

// There is no other way to end a session.
function unset(ctx) {
  ctx.session = null;
  ctx.status = 204;
}

async function handle(ctx) {
  const route = `${ctx.method} ${ctx.path}`;
  if (route === 'POST /login') {
    await ctx.regenerateSession();
    ctx.session.user = ctx.query.user;
    ctx.status = 204;
    return;
  }
  if (ctx.session.user) routes[route](ctx);
  else ctx.status = 401;
}

// The same app as that of express.
module.exports = (koa, store, keys, options) => {
  const app = new Koa();
  app.keys = keys;
  app.proxy = Boolean(options.proxy);
  app.use(session({ store, ...options }));
  app.use(handle);
  return app.callback();
};
