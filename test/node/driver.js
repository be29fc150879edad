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

module.exports = async ({ package: name, database, settings }) => {
  const koa = name in stores.koa;
  const it = await (koa ? stores.koa : stores.express)[name](database, settings);
  const methods = koa ? koaMethods(it, settings.middleware) : expressMethods(it);
  return { methods, close: it.close };
};
