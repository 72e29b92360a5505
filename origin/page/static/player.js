// One stream, or one recording of it, in one video element: starts, explains itself, starts again;
// what plays is an engine.
//
// An *engine* is one library: `new Engine(video, base, meter, tell)` begins, `destroy()` ends it.
// `base` is the address of the folder with the playlists.
// It has `levels` [{index, name, width, height, kbps, codecs}], `level` and `auto`, `select(index)`
// (-1: by itself), `texts` [{index, name}] and `read(index)` (-1: none), `livePosition` and
// `chase(live)`: keep up with it or not, `recording`, `latency` {edge, date, target} in seconds or
// null (by the playlist, by the programme's dates, wanted), and `isLive()`, which asks the server.
// It tells: `ready()` play now; `levels()` they, texts or the playing one changed; `progress()` new
// media; `recorded()` nothing more will come; `failed({kind, status, codecs})` see words.js.
//
// Laws: a library is asked before the browser's own HLS, which some browsers announce but cannot do
// live. Whatever fails is said in words and, where that can help, tried again for as long as the
// page is open: after a few seconds, a little longer each time, never at the same instant for
// everybody. Tells what changed by events: "notice", "levels", "phase". Does not know the page, nor
// which library it is.

import { DashEngine } from "./engine-dash.js";
import { HlsEngine } from "./engine-hls.js";
import { NativeEngine } from "./engine-native.js";
import { Stalls } from "./meter.js";
import { SAYINGS, sayingFor } from "./words.js";

export const ENGINES = { hls: HlsEngine, dash: DashEngine };
const AGAIN_MAX_S = 15;
const LIVE_CHECK_MS = 10_000;
const SIGNAL_MS = 3000; // no new part for so long: it is not the viewer's connection
const STUCK_MS = 4000; // standing still for so long with something to play: begin again

const loaded = new Map();

/** Fetch the library of an engine, once; its address stands in the page. */
function library(name) {
  if (!loaded.has(name)) {
    const script = document.createElement("script");
    script.src = document.body.dataset[name];
    const done = new Promise((resolve, reject) => {
      script.addEventListener("load", resolve);
      script.addEventListener("error", reject);
    });
    done.catch(() => loaded.delete(name)); // fetched again next time
    loaded.set(name, done);
    document.head.append(script);
  }
  return loaded.get(name);
}

export class Player extends EventTarget {
  phase = "connecting"; // live, recording, waiting, offline, failed
  notice = SAYINGS.connecting;
  engine = null;
  chasing = true; // live; not from where somebody has gone back to
  #run = 0; // of the engine that plays; grows with each
  #attempts = 0;
  #timer = 0;
  #advancedAt = 0;
  #stood = { position: 0, since: 0 };

  /** kept: `base` is that of a recording, which nothing more will come to. */
  constructor(video, { base, kept }, meter, name) {
    super();
    this.video = video;
    this.base = base;
    this.kept = kept;
    this.meter = meter;
    this.name = name;
    this.stalls = new Stalls(video);
    video.addEventListener("playing", () => this.#playing());
    video.addEventListener("ended", () => this.#over());
    video.addEventListener("play", () => this.#returnToWindow());
  }

  /** Play by another library from now on. */
  use(name) {
    this.name = name;
    this.#say("connecting", SAYINGS.connecting);
    this.start();
  }

  /** Begin, or begin again from nothing. */
  async start() {
    this.stop();
    this.stalls.restart();
    this.chasing = true;
    const { name } = this;
    const run = this.#run;
    const found = await library(name).then(() => true, () => false);
    if (run !== this.#run) return; // began again meanwhile
    const Engine = [ENGINES[name], NativeEngine].find(({ supported }) => supported);
    if (!found) this.#fail(SAYINGS.noLibrary);
    else if (!Engine) this.#say("failed", SAYINGS.unsupported);
    else this.engine = new Engine(this.video, this.base, this.meter, this.#ears());
  }

  /** What an engine tells is heard as long as it is the one that plays. */
  #ears() {
    const run = this.#run;
    const deeds = {
      ready: () => this.play(),
      levels: () => this.#changed("levels"),
      progress: () => { this.#advancedAt = performance.now(); },
      recorded: () => this.#recorded(),
      failed: (fault) => this.#fail(sayingFor(fault, this.kept)),
    };
    const heard = ([name, deed]) => [name, (given) => { if (run === this.#run) deed(given); }];
    return Object.fromEntries(Object.entries(deeds).map(heard));
  }

  stop() {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.engine?.destroy();
    this.engine = null;
  }

  get levels() {
    return this.engine?.levels ?? [];
  }

  get texts() {
    return this.engine?.texts ?? [];
  }

  get recording() {
    return this.engine?.recording ?? false;
  }

  /** Where the browser may seek: [start, end] in seconds of the media element, or null. */
  get range() {
    const { seekable } = this.video;
    if (!seekable.length) return null;
    return [seekable.start(0), seekable.end(seekable.length - 1)];
  }

  goLive() {
    const at = this.engine?.livePosition ?? this.range?.[1];
    this.#chase(true);
    if (at) this.video.currentTime = at;
    this.play();
  }

  /** Somewhere in `range`, and stay there; as near as can be to live, it is live. */
  seek(at) {
    const live = this.recording ? null : this.engine?.livePosition;
    if (live && at >= live) {
      this.goLive();
      return;
    }
    this.#chase(false);
    this.video.currentTime = at;
  }

  #chase(live) {
    this.chasing = live;
    this.engine?.chase(live);
  }

  /** With sound if the browser allows it, without if not, and if it allows neither, it says so. */
  async play() {
    try {
      await this.video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") return;
      if (this.video.muted) {
        this.#tell(SAYINGS.blocked);
        return;
      }
      this.video.muted = true;
      await this.play();
      if (!this.video.paused) this.#tell(SAYINGS.muted);
    }
  }

  /** The button of the notice. */
  act() {
    const { notice } = this;
    this.#tell(null);
    if (notice?.action === SAYINGS.muted.action) this.video.muted = false;
    else if (notice?.action === SAYINGS.again.action) this.start();
    else if (notice?.action === SAYINGS.closing.action) this.#replay();
    else this.play();
  }

  dismiss() {
    this.#tell(null);
  }

  /** Called now and then: says why the picture stands still. */
  watch() {
    const quiet = performance.now() - this.#advancedAt > SIGNAL_MS;
    const { notice } = this;
    const ours = notice === SAYINGS.signal || notice === SAYINGS.slow;
    this.#unstick();
    if (this.stalls.stalling && this.stalls.all().at(-1).seconds > 1) {
      if (!notice || ours) this.#say("waiting", quiet ? SAYINGS.signal : SAYINGS.slow);
    } else if (ours) {
      this.#say(this.recording ? "recording" : "live", null);
    }
  }

  /** A library that lost its place between two periods has media and does not play it. */
  #unstick() {
    const { video } = this;
    const stands = !video.paused && !video.ended && video.readyState > 2;
    if (!stands || video.currentTime !== this.#stood.position) {
      this.#stood = { position: video.currentTime, since: performance.now() };
    } else if (performance.now() - this.#stood.since > STUCK_MS) {
      this.#stood.since = performance.now();
      this.start();
    }
  }

  // -- what the engine tells

  #recorded() {
    if (this.kept) {
      this.#say("recording", null);
      return;
    }
    const wasLive = this.phase === "live" || this.phase === "waiting";
    this.#say("recording", wasLive ? SAYINGS.closing : SAYINGS.recording);
    this.#timer = setTimeout(() => this.#checkLive(), LIVE_CHECK_MS);
  }

  #fail(saying) {
    this.stop();
    this.#say(saying === SAYINGS.offline ? "offline" : "failed", saying);
    if (saying.again_s === null) return;
    this.#attempts += 1;
    const least = Math.min(AGAIN_MAX_S, saying.again_s * 1.3 ** (this.#attempts - 1));
    this.#timer = setTimeout(() => this.start(), 1000 * least * (0.8 + 0.4 * Math.random()));
  }

  // -- the ways it goes

  #playing() {
    this.#attempts = 0;
    if (this.recording) return;
    const keep = this.notice === SAYINGS.muted || this.notice === SAYINGS.closing;
    this.#say("live", keep ? this.notice : null);
  }

  #over() {
    const total = Math.round((this.range?.[1] ?? 0) - (this.range?.[0] ?? 0));
    const length = `${Math.floor(total / 60)}:${String(total % 60).padStart(2, "0")}`;
    if (this.recording) this.#say("recording", SAYINGS.over(length));
  }

  #replay() {
    this.seek(this.range?.[0] ?? 0);
    this.play();
  }

  /** After a long pause what was on screen has left the live window. */
  #returnToWindow() {
    const { range } = this;
    if (this.recording || !range) return;
    if (this.video.currentTime > 0 && this.video.currentTime < range[0]) this.goLive();
  }

  /** A stream that ended may begin again under the same name. */
  async #checkLive() {
    try {
      const live = await this.engine?.isLive();
      if (live && this.video.ended) this.start();
      else if (live) this.#tell(SAYINGS.again);
    } catch {
      // asked again below; playing the recording needs no answer
    }
    if (!this.recording) return;
    this.#timer = setTimeout(() => this.#checkLive(), LIVE_CHECK_MS);
  }

  #say(phase, notice) {
    const changed = this.phase !== phase;
    this.phase = phase;
    if (changed) this.#changed("phase");
    this.#tell(notice);
  }

  #tell(notice) {
    if (this.notice === notice) return;
    this.notice = notice;
    this.#changed("notice");
  }

  #changed(what) {
    this.dispatchEvent(new Event(what));
  }
}
