// hls.js as an engine: low-latency HLS in one video element. See player.js for what an engine is.
//
// Laws: hls.js tries the multivariant playlist once; trying again, and saying so, is the player's.

import { bufferedAhead, rateFor } from "./chase.js";
import { letEnd, waitingAtTheEnd } from "./ending.js";

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

const ONCE = {
  default: {
    maxTimeToFirstByteMs: 8000,
    maxLoadTimeMs: 12000,
    timeoutRetry: null,
    errorRetry: null,
  },
};

const CONFIG = {
  lowLatencyMode: true,
  liveSyncOnStallIncrease: 0.27, // a part, for a while (#forgive); by default 1 s, for good
  // The browser evicts by itself. Trimmed by hls.js 1.7.4 between a part's load and its append, the
  // parts of that segment count as never loaded, and sound stops for up to 3 s.
  backBufferLength: Infinity,
  capLevelToPlayerSize: true,
  startFragPrefetch: true,
  playlistLoadPolicy: PATIENT,
  manifestLoadPolicy: ONCE,
};

const FORGIVEN_MS = 60_000; // without a stall: back to the distance that the playlist asks for
const MEDIA_ERRORS_MS = 10_000; // two within it: start over
const CODECS = new Set([
  "manifestIncompatibleCodecsError", "bufferAddCodecError", "bufferIncompatibleCodecsError",
]);

export class HlsEngine {
  static get supported() {
    return Boolean(window.Hls?.isSupported());
  }

  levels = [];
  recording = false;
  #mediaErrors = [];
  #codecs = "";
  #edge = null;
  #stalledAt = 0;
  #switchedAt = -Infinity;
  #switching = 0;
  #targetS = 0;
  #video;
  #chasing = true;
  #keepUp = () => this.#keepsUp();

  constructor(video, base, meter, tell) {
    const { Hls } = window;
    const hls = new Hls({
      ...CONFIG,
      loader: meter.loader(Hls.DefaultConfig.loader),
      streamController: waitingAtTheEnd(Hls.DefaultConfig.streamController),
    });
    this.hls = hls;
    this.#video = video;
    this.clock = meter.clock;
    this.tell = tell;
    hls.on(Hls.Events.MANIFEST_LOADED, (_name, data) => this.#declared(data.levels));
    hls.on(Hls.Events.MANIFEST_PARSED, (_name, data) => this.#parsed(data.levels));
    hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => tell.levels());
    hls.on(Hls.Events.LEVEL_UPDATED, (_name, data) => this.#updated(data.details));
    hls.on(Hls.Events.LEVEL_SWITCHED, () => tell.levels());
    letEnd(hls, Hls.Events);
    hls.on(Hls.Events.ERROR, (_name, data) => this.#error(data));
    hls.loadSource(`${base}master.m3u8`);
    hls.attachMedia(video);
    video.addEventListener("timeupdate", this.#keepUp);
  }

  destroy() {
    clearTimeout(this.#switching);
    this.#video.removeEventListener("timeupdate", this.#keepUp);
    this.#video.playbackRate = 1;
    this.hls.destroy();
  }

  get level() {
    return this.hls.currentLevel;
  }

  get auto() {
    return this.hls.autoLevelEnabled;
  }

  /** Live, what is buffered is too little to throw away. And not back within a segment: hls.js
   * 1.7.4 takes the parts that it had of it for what is still buffered, goes on behind them, where
   * no picture can be decoded, and stands until the next segment. */
  select(index) {
    clearTimeout(this.#switching);
    if (this.recording) {
      this.hls.nextLevel = index;
      return;
    }
    const segmentMs = 1000 * this.#targetS;
    const wait = index < 0 ? 0 : this.#switchedAt + segmentMs - performance.now();
    if (wait > 0) this.#switching = setTimeout(() => this.#switch(index), wait);
    else this.#switch(index);
  }

  #switch(index) {
    this.#switchedAt = performance.now();
    this.hls.loadLevel = index;
  }

  get texts() {
    return this.hls.subtitleTracks.map(({ name }, index) => ({ index, name }));
  }

  read(index) {
    this.hls.subtitleTrack = index;
  }

  chase(live) {
    this.#chasing = live;
    if (!live) this.#video.playbackRate = 1;
  }

  #keepsUp() {
    const { latency, targetLatency } = this.hls;
    if (!this.#chasing || this.#video.paused || !latency || !targetLatency) return;
    this.#video.playbackRate = rateFor(latency - targetLatency, bufferedAhead(this.#video));
  }

  get livePosition() {
    return this.hls.liveSyncPosition;
  }

  get latency() {
    const { latency, playingDate, targetLatency } = this.hls;
    const now = Date.now() + this.clock.offsetMs;
    return {
      edge: latency || null,
      date: playingDate ? (now - playingDate.getTime()) / 1000 : null,
      target: targetLatency ?? null,
    };
  }

  async isLive() {
    const url = this.hls.levels[0]?.url[0];
    const answer = url ? await fetch(url, { cache: "no-store" }) : null;
    return Boolean(answer?.ok) && !(await answer.text()).includes("#EXT-X-ENDLIST");
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
    this.tell.levels();
    this.tell.ready();
  }

  #updated(details) {
    this.#targetS = details.targetduration;
    const edge = `${details.endSN}.${details.partList?.length ?? 0}.${details.edge}`;
    if (edge !== this.#edge) {
      this.#edge = edge;
      this.tell.progress();
    }
    if (details.live) {
      this.#leavePast(details);
      this.#forgive(details);
    }
    if (details.live || this.recording) return;
    this.recording = true;
    this.chase(false);
    this.tell.recorded();
  }

  /** An origin that was killed and came back begins another window: hls.js 1.7.4 would wait for
   * ever for what came before it. */
  #leavePast(details) {
    const { media } = this.hls;
    const past = media && media.currentTime > 0 && media.currentTime < details.fragmentStart;
    const stands = past && media.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
    if (stands && this.livePosition) media.currentTime = this.livePosition;
  }

  /** hls.js keeps the distance that it adds for each stall. */
  #forgive({ partHoldBack, holdBack }) {
    if (!this.#stalledAt || performance.now() - this.#stalledAt < FORGIVEN_MS) return;
    this.#stalledAt = 0;
    this.hls.targetLatency = partHoldBack || holdBack;
  }

  #error(data) {
    if (data.details === "bufferStalledError") this.#stalledAt = performance.now();
    if (!data.fatal) return;
    const cannot = CODECS.has(data.details);
    if (data.type === "mediaError" && !cannot && this.#recovers()) return;
    let kind = "unreachable";
    if (cannot) kind = "codecs";
    else if (data.type === "mediaError") kind = "media";
    else if (/Parsing|Empty/.test(data.details)) kind = "garbled";
    const codecs = data.mimeType ?? this.#codecs;
    this.tell.failed({ kind, status: data.response?.code ?? 0, codecs });
  }

  /** One decoding error may be a glitch: a fresh SourceBuffer often plays on. */
  #recovers() {
    const now = performance.now();
    this.#mediaErrors = this.#mediaErrors.filter((at) => now - at < MEDIA_ERRORS_MS);
    this.#mediaErrors.push(now);
    if (this.#mediaErrors.length > 1) return false;
    this.hls.recoverMediaError();
    return true;
  }
}
