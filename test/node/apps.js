'use strict';

// Makes apps whose sessions one of the packages keeps:
// {package, database, settings, apps: {NAME: {framework: 'express-4', secrets, session}}}.

const stores = require('./stores');

module.exports = async config => {
  const apps = new Map();
  const all = [];
  for (const [name, app] of Object.entries(config.apps)) {
    // Each its own: a middleware leaves its options with the store.
    const it = await stores.open(config);
    all.push(it);
    const session = { ...config.settings.middleware, ...app.session };
    apps.set(name, require(app.framework.startsWith('koa') ? './' + app.framework : './express')(app.framework, it.store, app.secrets, session));
  }
  return { apps, close: () => Promise.all(all.map(it => it.close())) };
};
