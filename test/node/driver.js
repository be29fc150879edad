'use strict';

// Opens one store of one package, {package, database, settings}, and offers its
// methods to the tests.

const stores = require('./stores');

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

function koaMethods({ store, prune }, options) {
  const MiddlewareStore = require('koa-generic-session/lib/store');
  const wrapped = new MiddlewareStore(store, { ...options });
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

// koa-session hands its store lifetimes that are ten seconds longer than its own.
function koaSessionMethods({ store }) {
  return {
    get: sid => store.get(sid),
    set: (sid, sess) => store.set(sid, sess, sess._expire + 10000 - Date.now()),
    destroy: sid => store.destroy(sid),
  };
}

module.exports = async config => {
  const it = await stores.open(config);
  const makers = { express: expressMethods, koa: koaMethods, koaSession: koaSessionMethods };
  return { methods: makers[it.middleware](it, config.settings.middleware), close: it.close };
};
