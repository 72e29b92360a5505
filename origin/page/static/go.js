// The go-live page: choose, look, go. What is sent and how is sender-whip.js where WebRTC gets
// through, else sender.js.
//
// Laws: the key is read when the broadcast begins and goes nowhere but into its connection; nothing
// is stored. Whatever the browser refuses is a plain sentence. The figures are also there for
// programs, as window.__edgecache.figures().

import { WhipSender } from "./sender-whip.js";
import { Sender, typeOf } from "./sender.js";

const PUBLISH = "/publish/";
const SHOW_MS = 500;
const VIEWERS_MS = 2000;
const SIZES = {
  360: { width: 640, height: 360, bitrate: 800000 },
  720: { width: 1280, height: 720, bitrate: 2500000 },
  1080: { width: 1920, height: 1080, bitrate: 4500000 },
};
const PHASES = {
  off: "off air",
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  over: "off air",
};
const NO_LEAVE = "The browser did not let this page use the camera, microphone or screen.";
const FAULTS = {
  NotAllowedError: `${NO_LEAVE} Allow it in the address bar, then choose again.`,
  NotFoundError: "No camera or microphone was found. Connect one, or show a screen.",
  NotReadableError: "Another program holds the camera or microphone. Close it, then choose again.",
  OverconstrainedError: "The camera cannot do this quality. Choose a lower one.",
};

const byId = (id) => document.getElementById(id);
let media = null;
let shown = ""; // camera, screen or nothing
let sender = null;
let viewers = null;

function say(title, text = "", kind = "cover") {
  byId("notice").dataset.kind = title ? kind : "none";
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = text;
}

/** What this browser lacks, in words; "" for nothing. */
function missing() {
  if (!navigator.mediaDevices) {
    return "Browsers give cameras to pages from https:// or localhost only. Open it there.";
  }
  if (!window.MediaRecorder) return "It has no MediaRecorder. A current browser has one.";
  return typeOf() ? "" : "It does not record H.264 or VP8. Current browsers do.";
}

// -- what to show

const sound = () => {
  const device = byId("audio").value;
  return device === "none" ? false : { ...(device && { deviceId: { exact: device } }) };
};

async function fromCamera() {
  const { width, height } = SIZES[byId("quality").value];
  const device = byId("video").value;
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } };
  if (device) video.deviceId = { exact: device };
  return navigator.mediaDevices.getUserMedia({ video, audio: sound() });
}

/** With the microphone if one is chosen, else the sound of what is shown. */
async function fromScreen() {
  const { width, height } = SIZES[byId("quality").value];
  const screen = await navigator.mediaDevices.getDisplayMedia({
    video: { width: { max: width }, height: { max: height }, frameRate: { max: 30 } },
    audio: true,
  });
  if (!sound()) return screen;
  const voice = await navigator.mediaDevices.getUserMedia({ audio: sound() }).catch(() => null);
  return voice ? new MediaStream([...screen.getVideoTracks(), ...voice.getTracks()]) : screen;
}

async function choose(source) {
  let chosen;
  try {
    chosen = await (source === "screen" ? fromScreen() : fromCamera());
  } catch (fault) {
    say("There is nothing to show yet", FAULTS[fault.name] ?? `The browser says: ${fault.message}`);
    return;
  }
  release();
  [media, shown] = [chosen, source];
  for (const track of media.getVideoTracks()) track.onended = lost;
  byId("preview").srcObject = media;
  byId("start").disabled = false;
  say("");
  mark();
  await list();
}

function release() {
  for (const track of media?.getTracks() ?? []) {
    track.onended = null;
    track.stop();
  }
  media = null;
}

/** Its owner ended it: unplugged, or the browser's own Stop sharing. */
function lost() {
  finish();
  release();
  shown = "";
  byId("preview").srcObject = null;
  byId("start").disabled = true;
  mark();
  say("The picture has ended", "Choose a camera or a screen again.");
}

function mark() {
  byId("camera").setAttribute("aria-pressed", String(shown === "camera"));
  byId("screen").setAttribute("aria-pressed", String(shown === "screen"));
}

/** Names are there once the browser was allowed. */
async function list() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  fill("video", "cameras", devices.filter((each) => each.kind === "videoinput"));
  fill("audio", "microphones", devices.filter((each) => each.kind === "audioinput"), "none");
}

function fill(id, label, devices, none = "") {
  const select = byId(id);
  const used = media.getTracks().find((track) => track.kind === id)?.getSettings().deviceId;
  select.replaceChildren(...devices.map((each) => new Option(each.label, each.deviceId)));
  if (none) select.append(new Option("No microphone", none));
  select.value = devices.some((each) => each.deviceId === used) ? used : none;
  byId(label).hidden = !devices.length;
}

// -- the broadcast

function start() {
  const told = {
    key: byId("key").value.trim(),
    title: byId("title").value.trim(),
    bitrate: SIZES[byId("quality").value].bitrate,
    media,
    onTurn: turned,
  };
  if (window.RTCPeerConnection) {
    const onNoWay = (why) => record(told, why);
    sender = new WhipSender({ ...told, url: `${PUBLISH}whip`, onNoWay });
    turned();
  } else {
    record(told);
  }
}

/** why: it does not go by WebRTC, in words for people. */
function record(told, why = "") {
  const address = new URL(PUBLISH, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  sender = new Sender({ ...told, url: address.href, type: typeOf() });
  sender.why = why;
  turned();
}

function finish() {
  sender?.stop();
}

function turned() {
  if (!sender) return; // while it is made
  const { phase, words, stream } = sender;
  const over = phase === "over";
  byId("phase").dataset.phase = phase;
  byId("phase").textContent = PHASES[phase];
  byId("start").hidden = !over;
  byId("stop").hidden = over;
  for (const field of byId("form").querySelectorAll("input, select, #camera, #screen")) {
    field.disabled = !over;
  }
  byId("on-air").hidden = !stream;
  byId("watch").href = byId("watch").textContent = `/watch/${stream}`;
  const title = over ? "Not on air" : phase === "reconnecting" ? "Connecting again" : "";
  if (phase === "live" && sender.why) say("Sending a recording", sender.why, "strip");
  else say(words && title, words, "strip");
}

async function countViewers() {
  if (sender?.phase !== "live") return;
  const answer = await fetch("/api/streams").then((found) => found.json()).catch(() => null);
  viewers = answer?.streams.find(({ name }) => name === sender.stream)?.viewers ?? viewers;
}

// -- figures

function figures() {
  const picture = media?.getVideoTracks()[0]?.getSettings() ?? {};
  const { phase = "off", stream = "", words = "", chunks = { sent: 0, dropped: 0 } } = sender ?? {};
  return {
    phase,
    stream,
    words,
    chunks,
    way: sender?.way ?? "",
    notice: byId("notice").innerText,
    type: typeOf(),
    picture: { width: picture.width ?? 0, height: picture.height ?? 0 },
    seconds: sender?.begun ? (performance.now() - sender.begun) / 1000 : 0,
    bytes: sender?.bytes ?? 0,
    received: sender?.received ?? 0,
    rate: sender?.rate ?? 0,
    waiting: sender?.waiting ?? 0,
    trip: sender?.trip ?? null,
    recordings: sender?.recordings ?? 0,
    viewers,
  };
}

function clock(seconds) {
  const parts = [seconds / 3600, (seconds / 60) % 60, seconds % 60].map(Math.floor);
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

function show() {
  if (!sender || byId("on-air").hidden) return;
  const now = figures();
  const health = now.phase !== "live" ? "not sending" : sender.behind ? "behind" : "good";
  const texts = {
    "f-time": clock(now.seconds),
    "f-time-note": now.picture.width ? `${now.picture.width} × ${now.picture.height}` : "",
    "f-viewers": now.viewers ?? "–",
    "f-rate": `${(now.rate / 1e6).toFixed(2)} Mb/s`,
    "f-rate-note": `${(now.bytes / 1e6).toFixed(1)} MB in all by ${now.way}`,
    "f-health": health,
    "f-health-note": `${Math.round(now.waiting / 1000)} kB wait here`,
    "f-trip": now.trip === null ? "–" : `${Math.round(now.trip)} ms`,
    "f-dropped": now.chunks.dropped,
    "f-dropped-note": `of ${now.chunks.sent} ${sender.unit}`,
  };
  for (const [id, text] of Object.entries(texts)) byId(id).textContent = text;
}

byId("camera").addEventListener("click", () => choose("camera"));
byId("screen").addEventListener("click", () => choose("screen"));
for (const id of ["video", "audio", "quality"]) {
  byId(id).addEventListener("change", () => shown && choose(shown));
}
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
byId("stop").addEventListener("click", finish);
window.addEventListener("beforeunload", (event) => {
  if (sender && sender.phase !== "over") event.preventDefault();
});
window.addEventListener("pagehide", finish); // WebRTC says no goodbye by itself
setInterval(show, SHOW_MS);
setInterval(countViewers, VIEWERS_MS);
window.__edgecache = { figures };

const reason = missing();
if (reason) {
  say("This browser cannot go live here", reason);
  for (const id of ["camera", "screen"]) byId(id).disabled = true;
}
