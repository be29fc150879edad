"use strict";

const at = id => document.getElementById(id);
const show = (id, text) => { at(id).textContent = text; };

async function get(path) {
  const answer = await fetch(path);
  const body = await answer.json();
  if (answer.ok) return body;
  if (answer.status === 401) return null;
  throw new Error(body.error);
}

function ago(time) {
  const seconds = Math.round((Date.now() - new Date(time)) / 1000);
  return new Date(time).getFullYear() < 2000 ? "none yet" : `${seconds} s ago`;
}

function showMemory(cache, queries) {
  at("memory").classList.toggle("unleased", !cache.Leased);
  show("memory", cache.Leased
    ? `leased, proven ${Math.round(cache.LeaseAge / 1e6)} ms ago; ${cache.Entries} sessions, ${Math.ceil(cache.Bytes / 1024)} KiB`
    : "not leased: every read asks the database");
  show("reads", `${cache.Hits} hits, ${cache.Misses} misses; ${cache.Messages} messages from other nodes`);
  show("queries", `${queries.application} for sessions, ${queries.own} for heartbeats, logouts and upkeep`);
  show("gaps", `${cache.Disconnects} lost connections, ${cache.Silences} silences, ` +
    `${cache.ClockJumps} clock jumps, ${cache.UnknownPayloads} unknown messages`);
}

function showStats({ node, pid, leader, queries, stats }) {
  document.title = node;
  show("node", `${node}, process ${pid}`);
  show("leader", leader || "nobody yet");
  show("leaves", stats.Partitions);
  const by = stats.MaintainedBy ? ` by ${stats.MaintainedBy}` : "";
  show("maintained", ago(stats.Maintained) + by + (stats.Leading ? "" : ", when this node last looked"));
  showMemory(stats.Cache, queries);
  show("counts", `${stats.Creates} logins, ${stats.Saves} saves, ${stats.Destroys} ended, ${stats.Refused} refused, ` +
    `${stats.Pruned.Retired} leaves dropped, ${stats.Pruned.Made} made`);
}

function showSession(me, sessions) {
  at("out").hidden = me !== null;
  at("in").hidden = me === null;
  if (me === null) return;
  show("user", me.user);
  show("label", me.label);
  show("version", me.version);
  show("expires", new Date(me.expires).toLocaleString());
  show("deadline", new Date(me.deadline).toLocaleString());
  show("values", Object.entries(me.values).map(([key, value]) => `${key} = ${value}`).join(", ") || "none");
  show("devices", sessions.length);
}

let complaint = null; // about what was last tried; stays until something else is

function trouble(error) {
  at("trouble").hidden = !error;
  show("trouble", error ? error.message : "");
}

async function refresh() {
  try {
    showStats(await get("/stats"));
    const [me, sessions] = await Promise.all([get("/me"), get("/sessions")]);
    showSession(sessions === null ? null : me, sessions);
    trouble(complaint);
  } catch (error) {
    trouble(error instanceof TypeError ? new Error("this node does not answer") : error);
  }
}

async function post(path, fields) {
  try {
    const answer = await fetch(path, { method: "POST", body: new URLSearchParams(fields) });
    complaint = answer.ok || answer.status === 401 ? null : new Error((await answer.json()).error);
  } catch {
    complaint = null; // the refresh finds out, and why
  }
  refresh();
}

for (const form of document.forms) {
  form.addEventListener("submit", event => {
    event.preventDefault();
    post(form.getAttribute("action"), new FormData(form));
  });
}

async function live() {
  await refresh();
  setTimeout(live, 1000);
}
live();
