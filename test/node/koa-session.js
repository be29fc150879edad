'use strict';

const Koa = require('koa');
const session = require('koa-session').default;

const routes = {
  'POST /change'(ctx) {
    ctx.session[ctx.query.key] = ctx.query.value;
  },
  'GET /show'(ctx) {
    ctx.body = ctx.session.toJSON();
  },
  'POST /touch'() {},
  'POST /logout': unset,
  'POST /unset': unset,
};

function unset(ctx) {
  ctx.session = null;
}

async function handle(ctx) {
  const route = `${ctx.method} ${ctx.path}`;
  ctx.status = ctx.method === 'POST' ? 204 : 200;
  if (route === 'POST /login') {
    ctx.session = { user: ctx.query.user };
    await ctx.session.regenerate();
  } else if (ctx.session.user) {
    routes[route](ctx);
  } else {
    ctx.status = 401;
  }
}

// The same app as those of koa-generic-session and express.
module.exports = (framework, store, keys, options) => {
  const app = new Koa();
  app.keys = keys;
  app.proxy = Boolean(options.proxy);
  app.use(session({ store, ...options }, app));
  app.use(handle);
  return app.callback();
};
