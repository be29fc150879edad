'use strict';

const session = require('express-session');

// A small express app.
module.exports = (express, store, secret, options) => {
  const app = require(express)();
  app.use(session({ store, secret, resave: false, saveUninitialized: false, ...options }));

  app.post('/login', (req, res, next) => {
    req.session.regenerate(err => {
      if (err) return next(err);
      req.session.user = req.query.user;
      res.sendStatus(204);
    });
  });

  app.use((req, res, next) => {
    if (!req.session.user) return res.sendStatus(401);
    next();
  });

  app.post('/change', (req, res) => {
    req.session[req.query.key] = req.query.value;
    res.sendStatus(204);
  });

  app.get('/show', (req, res) => {
    const { cookie, ...values } = JSON.parse(JSON.stringify(req.session));
    res.json(values);
  });

  app.post('/touch', (req, res) => res.sendStatus(204));

  app.post('/logout', (req, res, next) => {
    req.session.destroy(err => (err ? next(err) : res.sendStatus(204)));
  });

  app.post('/unset', (req, res) => {
    req.session = null;
    res.sendStatus(204);
  });

  return app;
};
