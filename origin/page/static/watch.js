// The watch page: player, controls, and the figures of this viewer, a few times a second.
//
// `?player=` says which library plays, `?recording=EPOCH` which recording, if not what is newest.
// Laws: what is shown is measured here, by this page; nothing is sent anywhere. The figures are
// also there for programs, as window.__edgecache.figures(). Bounds: five minutes of samples.

import { Controls } from "./controls.js";
import { Meter } from "./meter.js";
import { ENGINES, Player } from "./player.js";
import { SPAN_S, draw } from "./plot.js";

const SAMPLE_MS = 250;
const SAMPLES_MAX = 1200;
const STRIP_MS = 8000;

const byId = (id) => document.getElementById(id);
const { stream } = document.body.dataset;
const meter = new Meter();
const query = new URL(location.href).searchParams;
const asked = query.get("player");
const epoch = encodeURIComponent(query.get("recording") ?? "");
const folder = epoch ? `/vod/${stream}/${epoch}/` : `/live/${stream}/`;
const source = { base: folder, kept: epoch !== "" };
const player = new Player(byId("video"), source, meter, asked in ENGINES ? asked : "hls");
const controls = new Controls(player);
const history = [];

const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function buffered(video) {
  for (let index = 0; index < video.buffered.length; index += 1) {
    const end = video.buffered.end(index);
    if (video.buffered.start(index) <= video.currentTime + 0.1 && end > video.currentTime) {
      return end - video.currentTime;
    }
  }
  return 0;
}

function latencies() {
  const { engine, video, recording } = player;
  if (!engine || recording || !video.currentTime) return { edge: null, date: null, target: null };
  return engine.latency;
}

function rendition() {
  const { engine, levels, video } = player;
  const level = levels[engine?.level ?? -1];
  if (!level) return null;
  return { ...level, auto: engine.auto, shown: video.videoHeight };
}

/** Everything that is measured, as plain values. */
function figures() {
  const { video, stalls } = player;
  const frames = video.getVideoPlaybackQuality?.();
  return {
    stream,
    player: player.name,
    phase: player.phase,
    notice: player.notice && { title: player.notice.title, text: player.notice.text },
    recording: player.recording,
    playing: !video.paused && !video.ended && video.readyState > 2,
    position: video.currentTime,
    range: player.range,
    rate: video.playbackRate,
    latency: latencies(),
    clockOffset: meter.clock.offsetMs / 1000,
    buffer: buffered(video),
    rendition: rendition(),
    levels: player.levels,
    stalls: { count: stalls.count, seconds: stalls.seconds, events: stalls.all() },
    frames: { total: frames?.totalVideoFrames ?? 0, dropped: frames?.droppedVideoFrames ?? 0 },
    pops: meter.pops,
    pictures: controls.preview.loaded,
    requests: { ...meter.counts, ...meter.rates() },
  };
}

function sample(now) {
  const at = performance.now() / 1000;
  const { edge, date, target } = now.latency;
  const buffer = now.position ? now.buffer : null;
  const level = now.position && now.rendition ? now.rendition.name : null;
  history.push({ at, latency: date ?? edge, edge, date, target, buffer, level });
  if (history.length > SAMPLES_MAX) history.shift();
}

function tell(id, value, note = "") {
  for (const [name, text] of [[id, value], [`${id}-note`, note]]) {
    const place = byId(name);
    if (place.textContent !== text) place.textContent = text;
  }
}

function showLatency({ latency, clockOffset, recording }) {
  if (recording) return tell("f-latency", "–", "a recording");
  const seconds = latency.date ?? latency.edge;
  if (seconds === null) return tell("f-latency", "–");
  const edge = latency.edge === null ? "" : `${number(latency.edge, 2)} s by the playlist`;
  const clock = clockOffset ? `, your clock is ${number(-clockOffset, 1)} s off` : "";
  return tell("f-latency", `${number(seconds, 2)} s`, edge + clock);
}

function showPicture({ rendition: now }) {
  if (!now) return tell("f-picture", "–");
  const size = now.height ? `${now.width} × ${now.height}` : "sound only";
  return tell("f-picture", size, `${number(now.kbps)} kb/s, ${now.auto ? "auto" : "your choice"}`);
}

function showRequests({ pops, requests }) {
  const names = Object.entries(pops).sort((a, b) => b[1] - a[1]);
  const others = names.slice(1).map(([name, count]) => `${name} ${number(count)}`).join(", ");
  const told = requests.hits + requests.misses;
  const answers = told ? `${number(told)} answers` : "";
  tell("f-pop", names[0]?.[0] ?? (requests.unattributed ? "no cache" : "–"), others || answers);
  const share = told ? `${number((100 * requests.hits) / told, 1)} %` : "–";
  const missed = requests.misses === 1 ? "1 miss" : `${number(requests.misses)} misses`;
  tell("f-hits", share, told ? missed : "");
  const rate = told ? `${number(requests.requests, 1)} /s` : "–";
  tell("f-rate", rate, told ? `${number(requests.bits / 1e6, 2)} Mb/s` : "");
}

function show(now) {
  const started = now.frames.total > 0 || now.position > 0;
  showLatency(now);
  const rate = now.rate === 1 ? "" : `playing at ${number(now.rate, 2)}×`;
  tell("f-buffer", started ? `${number(now.buffer, 1)} s` : "–", rate);
  showPicture(now);
  const { count, seconds } = now.stalls;
  const stood = `${number(seconds, 1)} s in all`;
  tell("f-stalls", started ? number(count) : "–", started ? stood : "");
  const { dropped, total } = now.frames;
  tell("f-dropped", started ? number(dropped) : "–", started ? `of ${number(total)}` : "");
  showRequests(now);
  controls.update({ latency: now.latency.edge ?? now.latency.date, target: now.latency.target });
}

function plot(now) {
  const at = performance.now() / 1000;
  const samples = history.filter((each) => each.at > at - SPAN_S - 2);
  byId("plot-figure").hidden = now.recording && !samples.some((each) => each.latency !== null);
  if (byId("plot-figure").hidden) return;
  draw(byId("plot"), { samples, stalls: now.stalls.events, target: now.latency.target, now: at });
}

let strip = 0;

function showNotice() {
  const { notice } = player;
  clearTimeout(strip);
  byId("notice").dataset.kind = notice?.kind ?? "none";
  if (!notice) return;
  byId("notice-title").textContent = notice.title;
  byId("notice-text").textContent = notice.text;
  byId("notice-action").textContent = notice.action ?? "";
  byId("notice-action").hidden = !notice.action;
  const stays = notice.kind === "cover" || notice.action || player.phase === "waiting";
  if (!stays) strip = setTimeout(() => player.dismiss(), STRIP_MS);
}

function showPhase() {
  const { phase } = player;
  byId("phase").dataset.phase = phase;
  byId("stage").dataset.phase = phase;
  byId("phase").textContent = phase === "failed" ? "not playing" : phase;
  document.title = `${stream} · ${byId("phase").textContent}`;
}

/** What the broadcaster calls it, if it says: the heading, beside the name. */
async function showTitle() {
  if (player.phase !== "live") return;
  const answer = await fetch("/api/streams").then((found) => found.json()).catch(() => null);
  const title = answer?.streams.find(({ name }) => name === stream)?.title;
  byId("title").textContent = title ? `${title} · ${stream}` : stream;
}

/** A recording can be had as a file, where the POP lets it through. */
async function showRecording() {
  if (player.phase !== "recording") return;
  controls.preview.load(folder);
  const link = byId("download");
  link.href = `/download/${stream}${epoch && `/${epoch}`}.mp4`;
  const answer = await fetch(link.href, { method: "HEAD" }).catch(() => null);
  link.hidden = !answer?.ok;
}

function tick() {
  player.watch();
  const now = figures();
  sample(now);
  if (document.hidden) return;
  show(now);
  plot(now);
}

/** The address says which library plays, so that it can be kept and shared. */
function choosePlayer(event) {
  const url = new URL(location.href);
  url.searchParams.set("player", event.target.value);
  window.history.replaceState(null, "", url);
  player.use(event.target.value);
}

byId("player").value = player.name;
byId("player").addEventListener("change", choosePlayer);
player.addEventListener("notice", showNotice);
player.addEventListener("phase", showPhase);
player.addEventListener("phase", showTitle);
player.addEventListener("phase", showRecording);
byId("notice-action").addEventListener("click", () => player.act());
showNotice();
setInterval(tick, SAMPLE_MS);
window.__edgecache = { figures, history, player };
player.start();
