// The state page: what /api/streams says, once a second, with the rates between two answers.
//
// Laws: text is set as text, never as HTML. One request at a time, none while nobody looks; an
// answer that does not come is said, and what is on the page stays. Nothing is sent.

const EVERY_MS = 1000;
const PATIENCE_MS = 4000;

const byId = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  Number.isFinite(value)
    ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    : "–";
const bytes = (value) => {
  if (value < 1024) return `${number(value)} B`;
  return value < 1 << 20 ? `${number(value / 1024)} KiB` : `${number(value / (1 << 20), 1)} MiB`;
};
const total = (counts) => Object.values(counts ?? {}).reduce((sum, each) => sum + each, 0);
const listed = (counts) =>
  Object.entries(counts ?? {}).map(([name, count]) => `${name} ${number(count)}`).join(", ");

/** An element with properties and children; null children are left out. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Make `old` like `fresh` with the least change: focus and selection stay where they are. */
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.childNodes.length !== fresh.childNodes.length) {
    old.replaceWith(fresh);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
  } else {
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const children = [...fresh.childNodes];
    [...old.childNodes].forEach((child, index) => morph(child, children[index]));
  }
}

function fill(place, children) {
  const fresh = place.cloneNode(false);
  fresh.append(...children);
  morph(place, fresh);
}

function fact(name, value, note = "") {
  const label = make("dt", { textContent: name });
  const main = make("dd", { textContent: value });
  return make("div", {}, label, main, note ? make("dd", { textContent: note }) : null);
}

function table(head, rows) {
  const titles = head.map((title) => make("th", { scope: "col", textContent: title }));
  const body = rows.map(([first, ...cells]) => {
    const name = make("th", { scope: "row", textContent: first });
    return make("tr", {}, name, ...cells.map((cell) => make("td", cell)));
  });
  const columns = make("thead", {}, make("tr", {}, ...titles));
  return make("table", {}, columns, make("tbody", {}, ...body));
}

/** By how much a counter grew a second since the answer before; null without one. */
function growth(now, before, key) {
  if (!before || !(before.seconds > 0) || !before.row) return null;
  const grown = now[key] - before.row[key];
  return grown >= 0 ? grown / before.seconds : null;
}

function facts(stream, before) {
  const restarts = total(stream.restarts);
  const speed = stream.speed ? `${number(stream.speed, 2)}× real time, ` : "";
  const again = `${restarts ? listed(stream.restarts) : "no"} restarts`;
  const shed = ["", "too slow: without its best rung, ", "too slow: at half the rate, "];
  const published = growth(stream, before, "publications");
  const age = stream.last_tag_age_s ?? null;
  const dropped = [listed(stream.dropped_tags), listed(stream.dropped_frames)];
  return [
    fact(
      "Viewers",
      stream.viewers === null ? "–" : number(stream.viewers),
      "low latency, as the POPs count",
    ),
    fact("Source", stream.source ?? "–"),
    fact("Encoder", stream.encoder ?? "none", `${shed[stream.shed ?? 0]}${speed}${again}`),
    fact(
      "Its lag",
      stream.lag_ms === null ? "–" : `${number(stream.lag_ms)} ms`,
      `${bytes(stream.queued_bytes)} waiting for it`,
    ),
    fact(
      "Parts and playlists",
      number(stream.publications),
      published === null ? "" : `${number(published, 1)} /s`,
    ),
    fact(
      "Newest tag",
      age === null ? "–" : `${number(age, 1)} s ago`,
      stream.tags ? `${number(stream.tags)} in all` : "",
    ),
    fact(
      "Dropped",
      number(total(stream.dropped_tags) + total(stream.dropped_frames)),
      dropped.filter(Boolean).join(", ").replaceAll("_", " "),
    ),
    fact("In memory", bytes(stream.bytes)),
  ];
}

/** "7.3.6" -> ["7", "3"]: segment 7 is open and 3 of its parts are listed. */
function renditionRows(stream) {
  return (stream.renditions ?? []).map((track) => {
    const version = stream.playlists[`/live/${stream.name}/${track}.m3u8`];
    const [segment, parts] = (version ?? "–.–").split(".");
    return [track, { textContent: segment }, { textContent: parts }];
  });
}

function card(stream, before) {
  const link = make("a", { href: `/watch/${stream.name}`, textContent: stream.name });
  const state = stream.state === "unknown" ? "offline" : stream.state;
  const pill = make("p", { className: "pill", textContent: state });
  pill.dataset.phase = state;
  const epoch = stream.epoch
    ? `epoch ${stream.epoch}, generation ${stream.generation ?? "–"}`
    : "not broadcast yet";
  const title = make("h3", {}, link);
  const about = make("p", { textContent: epoch });
  const rows = renditionRows(stream);
  const known = stream.publications !== undefined;
  return make(
    "article",
    { className: "card" },
    make("header", {}, title, pill, about),
    known ? make("dl", { className: "facts" }, ...facts(stream, before)) : null,
    rows.length
      ? make("div", { className: "scroll" }, table(["Rendition", "Segment", "Parts of it"], rows))
      : null,
  );
}

function popRow(pop, before) {
  const rate = growth(pop, before, "acknowledged");
  const trouble = (count) => ({
    textContent: number(count),
    className: count ? "attention" : "",
  });
  return [
    pop.name,
    { textContent: pop.streams.join(", ") || "–" },
    { textContent: number(pop.connections) },
    { textContent: number(pop.queued) },
    { textContent: number(pop.on_wire) },
    { textContent: bytes(pop.queue_bytes) },
    { textContent: number(pop.acknowledged) },
    { textContent: rate === null ? "–" : number(rate, 1) },
    { textContent: `${number(pop.latency_ms.p50, 1)} / ${number(pop.latency_ms.p99, 1)}` },
    trouble(pop.refused),
    trouble(pop.dropped),
    trouble(pop.lost),
  ];
}

const POP_COLUMNS = [
  "POP", "Streams", "Connections", "Queued", "On the wire", "Bytes", "Acknowledged", "/s",
  "Ack ms p50 / p99", "Refused", "Dropped", "Lost",
];

let last = null;

function show(body) {
  const seconds = last ? (performance.now() - last.at) / 1000 : 0;
  const before = (kind, name) =>
    last && { seconds, row: last.body[kind].find((each) => each.name === name) };
  const streams = body.streams.map((stream) => card(stream, before("streams", stream.name)));
  const none = (text) => [make("p", { className: "quiet", textContent: text })];
  fill(byId("streams"), streams.length ? streams : none("No stream has a key yet."));
  const pops = body.pops.map((pop) => popRow(pop, before("pops", pop.name)));
  fill(byId("pops"), pops.length ? [table(POP_COLUMNS, pops)] : none("No POP is subscribed."));
  last = { at: performance.now(), body };
}

function fresh(phase, text) {
  byId("fresh").dataset.phase = phase;
  byId("fresh").textContent = text;
}

async function refresh() {
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    const answer = await fetch("/api/streams", { cache: "no-store", signal });
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    show(await answer.json());
    fresh("live", "live");
  } catch (error) {
    const ago = last ? `, ${number((performance.now() - last.at) / 1000)} s old` : "";
    fresh("stale", `no news: ${error.message}${ago}`);
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

window.__edgecache = { body: () => last?.body ?? null };
run();
