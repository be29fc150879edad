'use strict';

// Makes the stores of the packages, on a database that the tests name:
// {dialect, url} for postgres and mysql, {dialect, path} for sqlite. Settings
// are options of the store and, where there is one, of Sequelize.
//
// Packages are required only when asked for: some need a compiled module.

const session = require('express-session');

// Nothing prunes by itself: the tests say when.
const express = {
  async 'connect-pg-simple'(db, settings) {
    const pool = pgPool(db);
    const Store = require('connect-pg-simple')(session);
    const store = new Store({ pool, createTableIfMissing: true, pruneSessionInterval: false, ...settings.store });
    await callback(store, 'get', 'nobody'); // makes the table
    return { store, prune: () => callback(store, 'pruneSessions'), close: () => pool.end() };
  },

  'connect-session-sequelize-7': (...args) => connectSessionSequelize('connect-session-sequelize-7', ...args),
  'connect-session-sequelize-8': (...args) => connectSessionSequelize('connect-session-sequelize-8', ...args),

  async 'express-mysql-session'(db, settings) {
    const pool = require('mysql2/promise').createPool({ uri: db.url, connectionLimit: 4 });
    const Store = require('express-mysql-session')(session);
    const store = new Store({ clearExpired: false, ...settings.store }, pool);
    await store.onReady();
    return { store, prune: () => store.clearExpiredSessions(), close: () => pool.end() };
  },

  '@sailscastshq/connect-sqlite'(db, settings) {
    const Store = require('@sailscastshq/connect-sqlite')(session);
    const store = new Store({ url: db.path, ...settings.store });
    store.db.pragma('busy_timeout = 30000');
    return { store, prune: () => store._prune(), close: () => store.close() };
  },

  async 'connect-session-knex'(db, settings) {
    const knex = openKnex(db);
    const { ConnectSessionKnexStore } = require('connect-session-knex');
    const store = new ConnectSessionKnexStore({ knex, cleanupInterval: 0, ...settings.store });
    await store.ready;
    return { store, prune: () => store.dbCleanup(), close: () => knex.destroy() };
  },

  async 'better-sqlite3-session-store'(db) {
    const client = require('better-sqlite3')(db.path, { timeout: 30000 });
    const Store = require('better-sqlite3-session-store')(session);
    // Its timer cannot be turned off.
    const store = new Store({ client, expired: { intervalMs: 2 ** 31 - 1 } });
    return { store, prune: () => store.clearExpiredSessions(), close: () => client.close() };
  },
};

function openKnex(db) {
  const knex = require('knex');
  switch (db.dialect) {
    case 'postgres':
      return knex({ client: 'pg', connection: db.url, pool: { min: 0, max: 4 } });
    case 'mysql':
      return knex({ client: 'mysql2', connection: db.url, pool: { min: 0, max: 4 } });
  }
  const afterCreate = (connection, done) => {
    connection.pragma('busy_timeout = 30000');
    done(null, connection);
  };
  return knex({ client: 'better-sqlite3', connection: { filename: db.path }, useNullAsDefault: true, pool: { afterCreate } });
}

function pgPool(db) {
  const pool = new (require('pg').Pool)({ connectionString: db.url, max: 4 });
  pool.on('error', () => {}); // a database may be dropped before its last connection has closed
  return pool;
}

async function connectSessionSequelize(name, db, settings) {
  const sequelize = await openSequelize(db, settings);
  const Store = require(name)(session.Store);
  const options = { db: sequelize, checkExpirationInterval: 0, ...settings.store };
  if (settings.userColumn) {
    // As the package's documentation has it: a model of the application's own.
    const { STRING, DATE, TEXT } = require('sequelize').DataTypes;
    const columns = { sid: { type: STRING(36), primaryKey: true }, expires: DATE, data: TEXT, [settings.userColumn]: STRING };
    sequelize.define('WebSession', columns, { tableName: options.tableName });
    options.table = 'WebSession';
    // Of undefined Sequelize makes nothing: the column would keep the user of before.
    options.extendDefaultFields = (defaults, sess) => ({ ...defaults, [settings.userColumn]: sess.user ?? null });
  }
  const store = new Store(options);
  await store.sync();
  return { store, prune: () => store.clearExpiredSessions(), close: () => sequelize.close() };
}

const koa = {
  async 'koa-generic-session-sequelize'(db, settings) {
    const sequelize = await openSequelize(db, settings);
    const Store = require('koa-generic-session-sequelize');
    const store = new Store(sequelize, { gcFrequency: 0, ...settings.store });
    await new Promise(resolve => store.on('connect', resolve));
    return { store, prune: () => store.gc(), close: () => sequelize.close() };
  },
};

const koaSession = {
  async 'koa-session-knex-store'(db, settings) {
    const knex = openKnex(db);
    const createStore = require('koa-session-knex-store');
    const options = { createtable: true, ...settings.store };
    const store = createStore(knex, options);
    await store.get('nobody'); // makes the table
    return { store, close: () => knex.destroy() };
  },
};

async function openSequelize(db, settings) {
  const { Sequelize } = require('sequelize');
  const options = { logging: false, ...settings.sequelize };
  if (db.dialect !== 'sqlite') return new Sequelize(db.url, options);
  const sequelize = new Sequelize({ dialect: 'sqlite', storage: db.path, ...options });
  // Its one connection for all statements outside of transactions.
  await sequelize.query('PRAGMA busy_timeout = 30000');
  return sequelize;
}

// callback calls a method that takes a callback last.
function callback(target, method, ...args) {
  return new Promise((resolve, reject) => {
    target[method](...args, (err, value) => (err ? reject(err) : resolve(value)));
  });
}

// open opens the store of a package, and tells the middleware that it is for.
async function open({ package: name, database, settings }) {
  for (const [middleware, makers] of Object.entries({ express, koa, koaSession })) {
    if (name in makers) return { middleware, ...(await makers[name](database, settings)) };
  }
  throw new Error(`there is no ${name}`);
}

module.exports = { open, callback };
