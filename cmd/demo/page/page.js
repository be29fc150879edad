"use strict";

const at = id => document.getElementById(id);
const show = (id, text) => { at(id).textContent = text; };

// row shows what not every kind of database has.
function row(id, text) {
  at(id).hidden = at(id).previousElementSibling.hidden = text === undefined;
  show(id, text ?? "");
}

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

function showMemory(memory, cache) {
  at("memory").classList.toggle("unleased", memory && !cache.Leased);
  if (!memory) show("memory", "none: every read asks the database");
  else show("memory", cache.Leased
    ? `leased, proven ${Math.round(cache.LeaseAge / 1e6)} ms ago; ${cache.Entries} sessions, ${Math.ceil(cache.Bytes / 1024)} KiB`
    : "not leased: every read asks the database");
  row("reads", memory ? `${cache.Hits} hits, ${cache.Misses} misses; ${cache.Messages} messages from other nodes` : undefined);
  row("gaps", memory ? `${cache.Disconnects} lost connections, ${cache.Silences} silences, ` +
    `${cache.ClockJumps} clock jumps, ${cache.UnknownPayloads} unknown messages` : undefined);
}

function showStats({ node, pid, store, memory, leader, queries, stats }) {
  document.title = node;
  show("node", `${node}, process ${pid}`);
  show("store", store);
  row("leader", leader === "" ? "nobody yet" : leader ?? (stats.Leading ? "this node" : undefined));
  row("partitions", stats.Partitions || undefined);
  const by = stats.MaintainedBy ? ` by ${stats.MaintainedBy}` : "";
  show("maintained", ago(stats.Maintained) + by + (stats.Leading || leader === undefined ? "" : ", when this node last looked"));
  showMemory(memory, stats.Cache);
  row("queries", queries && `${queries.application} for sessions, ${queries.own} for heartbeats, logouts and upkeep`);
  const pruned = stats.Partitions ? `${stats.Pruned.Retired} partitions dropped, ${stats.Pruned.Made} made` : `${stats.Pruned.Rows} pruned`;
  show("counts", `${stats.Gets} reads, ${stats.Creates} logins, ${stats.Saves} saves, ${stats.Destroys} ended, ${stats.Refused} refused, ${pruned}`);
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
