// One stream in one video element, through hls.js: starts, explains itself, starts again.
//
// Laws: hls.js is asked before the browser's own HLS, which some browsers announce but cannot do
// live. Whatever fails is said in words and, where that can help, tried again for as long as the
// page is open: after a few seconds, a little longer each time, never at the same instant for
// everybody. Tells what changed by events: "notice", "levels", "phase". Does not know the page.

import { SAYINGS, cannotDecode, sayingFor } from "./words.js";
import { Stalls } from "./meter.js";

const AGAIN_MAX_S = 15;
const LIVE_CHECK_MS = 10_000;
const MEDIA_ERRORS_MS = 10_000; // two within it: start over
const SIGNAL_MS = 3000; // no new part for so long: it is not the viewer's connection

/** Media playlists: a stream that began anew lists no whole segment for its first two seconds, and
 * while its origin restarts a POP says 503. */
const PATIENT = {
  default: {
    maxTimeToFirstByteMs: 8000,
    maxLoadTimeMs: 12000,
    timeoutRetry: { maxNumRetry: 2, retryDelayMs: 0, maxRetryDelayMs: 0 },
    errorRetry: { maxNumRetry: 8, retryDelayMs: 500, maxRetryDelayMs: 1000, backoff: "linear" },
  },
};

const CONFIG = {
  lowLatencyMode: true,
  maxLiveSyncPlaybackRate: 1.1, // by default hls.js never catches up
  liveSyncOnStallIncrease: 0.34, // a part; by default one hiccup at the start costs 1 s for good
  // The browser evicts by itself. Trimmed by hls.js 1.7.4 between a part's load and its append, the
  // parts of that segment count as never loaded, and sound stops for up to 3 s.
  backBufferLength: Infinity,
  capLevelToPlayerSize: true,
  startFragPrefetch: true,
  playlistLoadPolicy: PATIENT,
};

/** Of the multivariant playlist hls.js need not try twice: we do, and say so. */
const ONCE = {
  default: {
    maxTimeToFirstByteMs: 8000,
    maxLoadTimeMs: 12000,
    timeoutRetry: null,
    errorRetry: null,
  },
};

export class Player extends EventTarget {
  phase = "connecting"; // live, recording, waiting, offline, failed
  notice = SAYINGS.connecting;
  hls = null;
  levels = [];
  recording = false;
  #attempts = 0;
  #timer = 0;
  #mediaErrors = [];
  #codecs = "";
  #advancedAt = 0;
  #edge = null;

  constructor(video, source, meter) {
    super();
    this.video = video;
    this.source = source;
    this.meter = meter;
    this.stalls = new Stalls(video);
    video.addEventListener("playing", () => this.#playing());
    video.addEventListener("ended", () => this.#over());
    video.addEventListener("error", () => this.#nativeError());
    video.addEventListener("play", () => this.#returnToWindow());
  }

  /** Begin, or begin again from nothing. */
  start() {
    this.stop();
    this.stalls.restart();
    this.recording = false;
    const Hls = window.Hls;
    if (Hls?.isSupported()) this.#startHls(Hls);
    else if (this.video.canPlayType("application/vnd.apple.mpegurl")) this.#startNative();
    else this.#say("failed", Hls ? SAYINGS.unsupported : SAYINGS.noLibrary);
  }

  stop() {
    clearTimeout(this.#timer);
    this.hls?.destroy();
    this.hls = null;
  }

  /** Where the browser may seek: [start, end] in seconds of the media element, or null. */
  get range() {
    const { seekable } = this.video;
    if (!seekable.length) return null;
    return [seekable.start(0), seekable.end(seekable.length - 1)];
  }

  /** Which rendition, -1 by itself. Live, what is buffered is too little to throw away. */
  setQuality(index) {
    if (!this.hls) return;
    if (this.recording) this.hls.nextLevel = index;
    else this.hls.loadLevel = index;
  }

  goLive() {
    const at = this.hls?.liveSyncPosition ?? this.range?.[1];
    if (at) this.video.currentTime = at;
    this.play();
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
    if (this.stalls.stalling && this.stalls.all().at(-1).seconds > 1) {
      if (!notice || ours) this.#say("waiting", quiet ? SAYINGS.signal : SAYINGS.slow);
    } else if (ours) {
      this.#say(this.recording ? "recording" : "live", null);
    }
  }

  // -- hls.js

  #startHls(Hls) {
    const hls = new Hls({
      ...CONFIG,
      loader: this.meter.loader(Hls.DefaultConfig.loader),
      manifestLoadPolicy: ONCE,
    });
    this.hls = hls;
    hls.on(Hls.Events.MANIFEST_LOADED, (_name, data) => this.#declared(data.levels));
    hls.on(Hls.Events.MANIFEST_PARSED, (_name, data) => this.#parsed(data.levels));
    hls.on(Hls.Events.LEVEL_UPDATED, (_name, data) => this.#updated(data.details));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.#changed("levels"));
    hls.on(Hls.Events.ERROR, (_name, data) => this.#error(data));
    hls.loadSource(this.source);
    hls.attachMedia(this.video);
  }

  /** The codecs of all variants, also of those that hls.js will leave out. */
  #declared(levels) {
    const all = levels.flatMap((level) => (level.attrs.CODECS ?? "").split(","));
    const found = [...new Set(all.map((codec) => codec.trim()).filter(Boolean))];
    const source = window.ManagedMediaSource ?? window.MediaSource;
    const unknown = found.filter((codec) => {
      return !source.isTypeSupported(`video/mp4; codecs="${codec}"`);
    });
    this.#codecs = (unknown.length ? unknown : found).join(", ");
  }

  #parsed(levels) {
    this.levels = levels.map((level, index) => ({
      index,
      name: level.height ? `${level.height}p` : `${Math.round(level.bitrate / 1000)} kb/s`,
      width: level.width ?? 0,
      height: level.height ?? 0,
      kbps: Math.round(level.bitrate / 1000),
      codecs: level.codecs ?? [level.videoCodec, level.audioCodec].filter(Boolean).join(","),
    }));
    this.#changed("levels");
    this.play();
  }

  #updated(details) {
    const edge = `${details.endSN}.${details.partList?.length ?? 0}.${details.edge}`;
    if (edge !== this.#edge) {
      this.#edge = edge;
      this.#advancedAt = performance.now();
    }
    if (details.live || this.recording) return;
    this.recording = true;
    const wasLive = this.phase === "live" || this.phase === "waiting";
    this.#say("recording", wasLive ? SAYINGS.closing : SAYINGS.recording);
    this.#timer = setTimeout(() => this.#checkLive(), LIVE_CHECK_MS);
  }

  #error(data) {
    if (!data.fatal) return;
    if (data.type === "mediaError" && this.#recovers(data)) return;
    const { type, details } = data;
    const codecs = data.mimeType ?? this.#codecs;
    this.#fail(sayingFor({ type, details, status: data.response?.code ?? 0, codecs }));
  }

  /** One decoding error may be a glitch: a fresh SourceBuffer often plays on. */
  #recovers(data) {
    if (cannotDecode(data.details)) return false;
    const now = performance.now();
    this.#mediaErrors = this.#mediaErrors.filter((at) => now - at < MEDIA_ERRORS_MS);
    this.#mediaErrors.push(now);
    if (this.#mediaErrors.length > 1) return false;
    this.hls.recoverMediaError();
    return true;
  }

  #fail(saying) {
    this.stop();
    this.#say(saying === SAYINGS.offline ? "offline" : "failed", saying);
    if (saying.again_s === null) return;
    this.#attempts += 1;
    const least = Math.min(AGAIN_MAX_S, saying.again_s * 1.3 ** (this.#attempts - 1));
    this.#timer = setTimeout(() => this.start(), 1000 * least * (0.8 + 0.4 * Math.random()));
  }

  // -- the browser's own HLS

  #startNative() {
    this.video.src = this.source;
    this.play();
  }

  #nativeError() {
    if (this.hls || !this.video.src || this.video.src.startsWith("blob:")) return;
    const unsupported = this.video.error?.code === MediaError.MEDIA_ERR_DECODE;
    this.#fail(unsupported ? SAYINGS.broken : SAYINGS.offline);
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
    this.video.currentTime = this.range?.[0] ?? 0;
    this.play();
  }

  /** After a long pause what was on screen has left the live window. */
  #returnToWindow() {
    const { range } = this;
    if (this.recording || !range || !this.hls) return;
    if (this.video.currentTime > 0 && this.video.currentTime < range[0]) this.goLive();
  }

  /** A stream that ended may begin again under the same name. */
  async #checkLive() {
    const url = this.hls?.levels[0]?.url[0];
    try {
      const answer = url ? await fetch(url, { cache: "no-store" }) : null;
      const live = answer?.ok && !(await answer.text()).includes("#EXT-X-ENDLIST");
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
