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
  let again = 0;

  // exchange brings the page of an address: its parts take the place of ours.
  async function exchange(url) {
    if (request) request.abort();
    const mine = request = new AbortController();
    try {
      const answer = await fetch(url, { headers: { Accept: "text/html" }, signal: mine.signal });
      const type = answer.headers.get("Content-Type") || "";
      if (!type.startsWith("text/html")) throw new Error("no page");
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of fresh.querySelectorAll("[data-part]")) replace(document.getElementById(part.id), part);
      body.dataset.token = fresh.body.dataset.token;
      attend(); // a page that changes no more has no token
      offline.hidden = true;
    } catch (error) {
      if (error.name !== "AbortError") offline.hidden = false;
    } finally {
      if (request === mine) request = null;
    }
  }

  // replace keeps what the reader did with the part: details that are open, the focus.
  function replace(old, fresh) {
    if (!old || old.isEqualNode(fresh)) return;
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const same = focused && (focused.id ? "#" + CSS.escape(focused.id) : focused.hasAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : null);
    const details = fresh.querySelectorAll("details");
    if (details.length === open.length) details.forEach((d, i) => { d.open = open[i]; });
    old.replaceWith(document.adoptNode(fresh));
    if (same) fresh.querySelector(same)?.focus({ preventScroll: true });
  }

  function refresh() {
    if (request) return; // the next event asks again
    clearTimeout(again);
    again = setTimeout(() => exchange(location.href), 100);
  }

  function show(running) {
    const progress = document.getElementById("progress");
    if (!progress || !running) return;
    progress.value = running.percent;
    document.getElementById("percent").textContent = running.percent + " %";
    document.getElementById("step").textContent = running.step;
    document.getElementById("left").textContent = running.left;
  }

  function listen() {
    if (stream) return;
    stream = new EventSource(body.dataset.live);
    stream.addEventListener("status", (event) => {
      const status = JSON.parse(event.data);
      offline.hidden = true;
      if (status.token !== body.dataset.token) refresh();
      show(status.running);
    });
    stream.addEventListener("error", () => {
      if (stream.readyState === EventSource.CLOSED) { // refused: look from time to time
        stream = null;
        setTimeout(() => { refresh(); attend(); }, 30000);
      } else {
        setTimeout(() => { if (stream && stream.readyState !== EventSource.OPEN) offline.hidden = false; }, 5000);
      }
    });
  }

  // A page that nobody sees holds no connection: browsers have few for one server.
  function attend() {
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

  // Relative times age. span is that of the server.
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
