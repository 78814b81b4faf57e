// Live figures. The server renders everything: this script shows the progress that the
// live stream tells, as text, and exchanges the parts of the page by those of a newer one
// when the stream names another token. Without it, reloading does the same.
"use strict";
(() => {
  const body = document.body;
  const offline = document.getElementById("offline");
  const form = document.querySelector("form[data-filter]");
  let stream = null;
  let request = null;
  let named = ""; // token that the stream named while a page was on its way
  let again = 0; // timer of the next exchange
  let retry = 0; // timer of the next attempt at a stream that was refused

  // Moments are in UTC, or, where the reader wants that, in the time zone of the browser; the
  // other one is in the title.
  const zone = document.getElementById("zone");
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const two = (n) => String(n).padStart(2, "0");
  const remembered = () => { try { return localStorage.getItem("zone"); } catch { return null; } };
  let local = remembered() === "local";

  function localText(t) {
    const minutes = -t.getTimezoneOffset();
    const offset = (minutes < 0 ? "-" : "+") + two(Math.floor(Math.abs(minutes) / 60)) + (minutes % 60 ? ":" + two(Math.abs(minutes) % 60) : "");
    return `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())} ${offset}`;
  }

  // A picture has no <time>: its ticks say which form they have, and what it reads out names moments
  // in UTC within a sentence.
  const moment = /\d{4}-\d\d-\d\d \d\d:\d\d UTC/g;
  const zoneless = (t) => localText(t).replace(/:\d\d (\S+)$/, " $1");
  const written = { // by data-form
    day: (t) => localText(t).slice(0, 10),
    clock: (t) => localText(t).slice(11, 16),
    zone: (t) => localText(t).slice(0, 10) + ", " + here,
  };
  function showForms(root) {
    for (const e of root.querySelectorAll("[data-form]")) {
      const utc = e.dataset.utc || (e.dataset.utc = e.textContent);
      e.textContent = local ? written[e.dataset.form](new Date(e.dataset.at)) : utc;
    }
    for (const e of root.querySelectorAll(".readout tspan")) {
      const utc = e.dataset.utc || (e.dataset.utc = e.textContent);
      e.textContent = local ? utc.replace(moment, (m) => zoneless(new Date(m.replace(" ", "T").replace(" UTC", "Z")))) : utc;
    }
  }

  function showZone(root) {
    showForms(root);
    for (const time of root.querySelectorAll("time[datetime]")) {
      const utc = time.dataset.utc || (time.dataset.utc = "relative" in time.dataset ? time.title : time.textContent);
      if (!utc) continue; // beside one that is written out
      const whole = localText(new Date(time.dateTime));
      const text = !local ? utc : "clock" in time.dataset ? whole.slice(11) : whole;
      if ("relative" in time.dataset) time.title = text;
      else {
        time.textContent = text;
        if (local) time.title = utc; else time.removeAttribute("title");
      }
    }
  }
  body.dataset.zone = local ? "local" : "utc";
  const nameZone = () => { zone.textContent = "Times: " + (local ? here : "UTC"); };
  nameZone();
  if (local) showZone(document);
  zone.addEventListener("click", () => {
    local = !local;
    try { localStorage.setItem("zone", local ? "local" : "utc"); } catch { /* for this page, then */ }
    body.dataset.zone = local ? "local" : "utc";
    nameZone();
    showZone(document);
  });

  // exchange brings the page of an address: our parts become what its parts are.
  async function exchange(url) {
    clearTimeout(again);
    if (request) request.abort();
    const mine = request = new AbortController();
    named = "";
    let later = 100;
    try {
      const answer = await fetch(url, { headers: { Accept: "text/html" }, signal: mine.signal });
      const type = answer.headers.get("Content-Type") || "";
      if (!type.startsWith("text/html")) throw new Error("no page");
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (local) showZone(fresh);
      for (const part of fresh.querySelectorAll("[data-part]")) renew(document.getElementById(part.id), part);
      body.dataset.token = fresh.body.dataset.token;
      if (!body.dataset.token) attend(); // a page that changes no more has no token
      offline.hidden = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      offline.hidden = false;
      later = 10000;
    } finally {
      if (request === mine) request = null;
    }
    // The page may be older than what the stream has named meanwhile, and names once.
    if (stream && named && named !== body.dataset.token) refresh(later);
  }

  // key tells elements of a kind apart: what an element is about, "" where it does not say.
  function key(e) {
    if (e.nodeType !== Node.ELEMENT_NODE) return "";
    const summary = e.closest("summary") || (e.localName === "details" && e.querySelector("summary"));
    return e.id || e.getAttribute("href") || (e.form || e).getAttribute("action") || (summary ? summary.textContent : "");
  }
  const same = (a, b) => a.nodeName === b.nodeName && key(a) === key(b);

  // become makes a node what it is on a newer page, and leaves alone what is the same: it
  // keeps the focus, stays open, and is not read out once more.
  function become(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    const theirs = (name) => name === "open" && old.localName === "details"; // the reader's
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !theirs(name)) old.removeAttribute(name);
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value && !theirs(name)) old.setAttribute(name, value);
    const before = [...old.childNodes], after = [...fresh.childNodes];
    if (before.length === after.length && before.every((node, i) => same(node, after[i]))) before.forEach((node, i) => become(node, after[i]));
    else old.replaceChildren(...after);
  }

  // renew also looks for what the reader was at in what took its place.
  function renew(old, fresh) {
    if (!old) return;
    const alike = (e) => [...old.querySelectorAll(e.localName)].filter((other) => same(e, other));
    const place = (e) => ({ e, nth: alike(e).indexOf(e) });
    const focused = [document.activeElement].filter((e) => e !== old && old.contains(e)).map(place);
    const open = [...old.querySelectorAll("details[open]")].map(place);
    become(old, fresh);
    for (const { e, nth } of open) if (!e.isConnected && alike(e)[nth]) alike(e)[nth].open = true;
    for (const { e, nth } of focused) if (!e.isConnected) alike(e)[nth]?.focus({ preventScroll: true });
  }

  function refresh(later = 100) {
    clearTimeout(again);
    again = setTimeout(() => exchange(location.href), later);
  }

  // show writes the progress of a cycle wherever the page shows it: by its number, or as
  // the one that runs here.
  function show(name, cycle) {
    const text = { percent: cycle.percent + " %", step: cycle.step, left: cycle.left };
    for (const place of document.querySelectorAll(`[data-cycle="${name}"] :is(#progress, #percent, #step, #left, [data-shows])`)) {
      if (place.id === "progress") place.value = cycle.percent;
      else place.textContent = text[place.dataset.shows || place.id];
    }
  }

  function listen() {
    if (stream) return;
    stream = new EventSource(body.dataset.live);
    stream.addEventListener("status", (event) => {
      const status = JSON.parse(event.data);
      offline.hidden = true;
      if (request) named = status.token;
      else if (status.token !== body.dataset.token) refresh();
      if (status.running) show("here", status.running);
      for (const cycle of [status.running, ...(status.cycles || [])]) if (cycle) show(cycle.cycle, cycle);
    });
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) { // refused: look from time to time
        stream = null;
        clearTimeout(retry);
        retry = setTimeout(() => { refresh(); attend(); }, 30000);
      } else {
        setTimeout(() => { if (stream && stream.readyState !== EventSource.OPEN) offline.hidden = false; }, 5000);
      }
    });
  }

  // A page that nobody sees holds no connection: browsers have few for one server.
  function attend() {
    clearTimeout(retry);
    if (document.visibilityState === "visible" && body.dataset.token) return listen();
    if (stream) stream.close();
    stream = null;
  }
  document.addEventListener("visibilitychange", attend);
  attend();

  // Filtering and sorting ask the server for what the form or the link would.
  function select(url) {
    history.replaceState(null, "", url);
    clearTimeout(again);
    again = setTimeout(() => exchange(url), 120);
  }
  if (form) {
    const asked = () => {
      const current = new URL(location.href);
      const text = form.elements.q.value;
      if (text) current.searchParams.set("q", text); else current.searchParams.delete("q");
      select(current.href);
    };
    form.addEventListener("input", asked);
    form.addEventListener("submit", (event) => { event.preventDefault(); asked(); });
    document.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-select]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      select(link.href);
      form.elements.q.value = new URL(link.href).searchParams.get("q") || "";
    });
  }

  // Relative times age. span is text.Span of the server.
  function span(seconds) {
    if (seconds < 120) return Math.max(Math.floor(seconds), 1) + " s";
    if (seconds < 7200) return Math.floor(seconds / 60) + " min";
    if (seconds < 172800) return Math.floor(seconds / 3600) + " h";
    return Math.floor(seconds / 86400) + " days";
  }
  setInterval(() => {
    for (const time of document.querySelectorAll("time[data-relative]")) {
      const seconds = (Date.parse(time.dateTime) - Date.now()) / 1000;
      time.textContent = Math.abs(seconds) < 1 ? "now" : seconds > 0 ? "in " + span(seconds) : span(-seconds) + " ago";
    }
  }, 10000);
})();
