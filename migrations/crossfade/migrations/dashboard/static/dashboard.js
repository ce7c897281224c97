// Keeps a page live. The server says which seams changed; the page is fetched again and what differs is put in its
// place, so that every word on it is rendered and escaped in one spot. What the stream itself carries is other
// people's text: it becomes text nodes and nothing else.
"use strict";

const root = document.body.dataset.root;
const csrf = document.querySelector("meta[name=csrf]").content;
const byId = (id) => document.getElementById(id);

// -- what is on the page, replaced by what is new -----------------------------------------------------------------

function sameKind(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && old.id === fresh.id;
}

function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE || old.hasAttribute("data-keep")) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "tabindex") old.removeAttribute(name); // without it focus is lost
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const news = [...fresh.childNodes];
  news.forEach((child, at) => {
    const known = old.childNodes[at];
    if (!known) old.append(document.adoptNode(child));
    else if (sameKind(known, child)) morph(known, child);
    else known.replaceWith(document.adoptNode(child));
  });
  while (old.childNodes.length > news.length) old.lastChild.remove();
}

let fetching = false;
let again = false;

async function refresh() {
  if (document.hidden || fetching) {
    again = true;
    return;
  }
  fetching = true;
  again = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) {
      leave();
      return;
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (fresh.getElementById("main")) {
      morph(byId("main"), fresh.getElementById("main"));
      document.title = fresh.title;
      document.dispatchEvent(new Event("renewed"));
    }
  } catch (error) {
    away("the control plane does not answer.");
  } finally {
    fetching = false;
    if (again) setTimeout(refresh, 1000);
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && again) refresh();
});

// -- whether it is live, said in words ----------------------------------------------------------------------------

const PATIENCE = 10000; // milliseconds without a word; the server says something every second
let seen = null;
let heard = 0;
let lost = false;

function clock(text) {
  return new Date(text).toLocaleTimeString([], { hour12: false });
}

function show(state, text) {
  const live = byId("live");
  if (live.dataset.state === state && byId("live-text").textContent === text) return;
  live.dataset.state = state;
  byId("live-text").textContent = text;
}

function away(why) {
  lost = true;
  show("away", "Not connected");
  byId("stale").textContent = `Not connected: ${why} What you see is from ${seen ? clock(seen) : "when the page was loaded"}.`;
  byId("stale").hidden = false;
  document.body.dataset.stale = "yes";
}

function connected(state) {
  seen = state.at;
  heard = Date.now();
  show("live", "Live");
  if (!lost) return;
  lost = false;
  byId("stale").hidden = true;
  delete document.body.dataset.stale;
  refresh();
}

function leave() {
  location.assign(`${document.body.dataset.login}?next=${encodeURIComponent(location.pathname)}`);
}

let stream = null;
let pause = 500;
let soon = 0; // a stream ends from time to time and is open again within a second: no reason to alarm anybody

function open() {
  stream = new EventSource(`${root}/news`);
  stream.addEventListener("open", () => {
    pause = 500;
    heard = Date.now();
    clearTimeout(soon);
    soon = 0;
  });
  stream.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    if (state.bus) connected(state);
    else {
      heard = Date.now();
      away("the bus cannot be reached.");
    }
  });
  stream.addEventListener("news", (event) => {
    const news = JSON.parse(event.data);
    news.lines.forEach(tell);
    const here = document.querySelector("[data-seam]");
    const live = document.querySelector("[data-live]");
    if (live) {
      if (live.dataset.live === "always" || news.lines.length) refresh();
      return;
    }
    if (news.changed.some((seam) => !here || seam === "" || seam === here.dataset.seam)) refresh();
  });
  stream.addEventListener("error", () => {
    soon = soon || setTimeout(away, 2000, "the control plane does not answer.");
    if (stream.readyState === EventSource.CLOSED) retry();
  });
}

// A stream that was refused is not opened again by the browser; a session that has ended is asked for anew.
async function retry() {
  stream.close();
  try {
    const answer = await fetch("/api/v1/session");
    if (answer.status === 401) {
      leave();
      return;
    }
  } catch (error) {
    away("the control plane does not answer.");
  }
  pause = Math.min(pause * 2, 15000);
  setTimeout(open, pause);
}

setInterval(() => {
  if (!heard || Date.now() - heard < PATIENCE) return;
  heard = Date.now();
  away("nothing has been heard for ten seconds.");
  retry();
}, 1000);

// -- the tail -----------------------------------------------------------------------------------------------------

const LINES = 40;

function part(name, text) {
  const made = document.createElement("span");
  made.className = name;
  made.textContent = text;
  return made;
}

function link(name, text, address) {
  const made = document.createElement("a");
  made.className = name;
  made.textContent = text;
  made.href = address;
  return made;
}

function tell(line) {
  const tail = byId("tail");
  if (!tail || (tail.dataset.only && tail.dataset.only !== line.seam)) return;
  const row = document.createElement("li");
  row.append(part("at", clock(line.at)), part("type", line.type), part("seam", line.seam));
  row.append(part("said", line.more ? `${line.said} … and more` : line.said));
  row.append(line.run ? link("run", "run", `${root}/runs/${encodeURIComponent(line.run)}`) : part("run", ""));
  tail.prepend(row);
  while (tail.childElementCount > LINES) tail.lastElementChild.remove();
}

// -- what an operator does ----------------------------------------------------------------------------------------

const dialog = byId("act");
let deed = null;

function ask(button) {
  const verdict = document.querySelector("[data-seam]");
  const { deed: name, step, period } = button.dataset;
  deed = { name, step, period, seam: verdict.dataset.seam, revision: verdict.dataset.revision };
  const label = button.textContent.replace("…", "");
  byId("act-title").textContent = label;
  byId("act-text").textContent = `${button.dataset.text}.`;
  byId("act-do").textContent = label;
  byId("act-do").className = deed.name === "rollback" ? "stop" : "main";
  byId("act-to").hidden = deed.name !== "rollback";
  byId("act-error").hidden = true;
  dialog.showModal();
  byId("act-reason").focus();
}

async function act() {
  const body = { reason: byId("act-reason").value };
  if (deed.name === "rollback" && byId("act-stage").value) body.to = byId("act-stage").value;
  if (deed.step) Object.assign(body, { step: deed.step, period_hours: Number(deed.period) });
  const answer = await fetch(`/api/v1/migrations/${encodeURIComponent(deed.seam)}/${deed.name}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "If-Match": `"${deed.revision}"`, "x-crossfade-csrf": csrf },
    body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail || told.title);
  if (told.done) return `${deed.seam}: ${told.done.split(" (")[0].replace("->", "→")}`;
  return told.now ? `${deed.seam}: ${told.was} → ${told.now}` : `${deed.seam} is ${told.status}`;
}

function say(text) {
  const done = byId("done");
  done.textContent = text;
  done.hidden = false;
  setTimeout(() => { done.hidden = true; }, 8000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-deed]");
  if (button) ask(button);
});

if (dialog) {
  byId("act-cancel").addEventListener("click", () => dialog.close());
  byId("act-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("act-do").disabled = true;
    try {
      say(await act());
      byId("act-reason").value = "";
      dialog.close();
      refresh();
    } catch (error) {
      byId("act-error").textContent = error instanceof TypeError ? "The control plane does not answer." : error.message;
      byId("act-error").hidden = false;
    } finally {
      byId("act-do").disabled = false;
    }
  });
}

if (byId("leave")) {
  byId("leave").addEventListener("click", async () => {
    await fetch("/api/v1/session", { method: "DELETE", headers: { "x-crossfade-csrf": csrf } });
    leave();
  });
}

open();
