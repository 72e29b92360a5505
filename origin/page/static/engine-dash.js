// dash.js as an engine: low-latency DASH in one video element. See player.js for what an engine is.
//
// Laws: latency, its target and the rates that keep it come from the MPD (ServiceDescription). The
// player's own play() is the first one: dash.js takes up its work at the event that this makes.
// Its own choice of rendition is used for recordings, and for the first one: see adapt.js.

import { Adapt } from "./adapt.js";

const ADAPT_MS = 500;

const SETTINGS = {
  debug: { logLevel: 0 },
  streaming: {
    liveCatchup: { enabled: true },
    abr: { limitBitrateByPortal: true, autoSwitchBitrate: { video: false, audio: false } },
    text: { defaultEnabled: false },
    retryAttempts: { MPD: 0 }, // trying again, and saying so, is the player's
  },
};

const CLOCK = 16; // no answer for the clock: it goes on by its own
const KINDS = {
  ...Object.fromEntries([10, 31, 32].map((code) => [code, "garbled"])),
  ...Object.fromEntries([11, 17, 25, 27, 28].map((code) => [code, "unreachable"])),
  ...Object.fromEntries([23, 35].map((code) => [code, "codecs"])),
};

export class DashEngine {
  static get supported() {
    return Boolean(window.dashjs && (window.ManagedMediaSource ?? window.MediaSource));
  }

  levels = [];
  texts = [];
  recording = false;
  auto = true;
  #status = 0; // of the newest answer that was a refusal
  #kind = "video";
  #adapt = new Adapt();
  #timer = 0;

  constructor(video, base, meter, tell) {
    const { dashjs } = window;
    const dash = dashjs.MediaPlayer().create();
    this.dash = dash;
    this.video = video;
    this.tell = tell;
    this.url = `${base}manifest.mpd`;
    dash.initialize();
    dash.updateSettings(SETTINGS);
    dash.addResponseInterceptor((answer) => this.#answered(answer, meter));
    const { events } = dashjs.MediaPlayer;
    dash.on(events.STREAM_INITIALIZED, () => this.#initialized());
    dash.on(events.QUALITY_CHANGE_RENDERED, () => tell.levels());
    dash.on(events.FRAGMENT_LOADING_PROGRESS, () => tell.progress());
    dash.on(events.DYNAMIC_TO_STATIC, () => this.#recorded());
    dash.on(events.ERROR, ({ error }) => this.#error(error));
    dash.attachView(video);
    dash.setAutoPlay(false);
    dash.attachSource(new URL(this.url, location.href).href);
  }

  destroy() {
    clearInterval(this.#timer);
    this.dash.destroy();
  }

  get level() {
    const playing = this.dash.getCurrentRepresentationForType(this.#kind);
    return this.levels.findIndex(({ id }) => id === playing?.id);
  }

  select(index) {
    this.auto = index < 0;
    this.#chooses(this.auto && this.recording);
    if (index >= 0) this.#play(index);
  }

  read(index) {
    this.dash.setTextTrack(index);
  }

  /** Does dash.js choose by itself? */
  #chooses(itself) {
    const autoSwitchBitrate = { [this.#kind]: itself };
    this.dash.updateSettings({ streaming: { abr: { autoSwitchBitrate } } });
  }

  #play(index) {
    this.dash.setRepresentationForTypeById(this.#kind, this.levels[index].id);
  }

  /** The highest that the picture is large enough for. */
  get #best() {
    const pixels = this.video.clientHeight * (window.devicePixelRatio || 1);
    const enough = this.levels.findIndex(({ height }) => height >= pixels);
    return enough < 0 ? this.levels.length - 1 : enough;
  }

  #follow() {
    const { level, video } = this;
    if (!this.auto || level < 0 || video.paused || video.seeking) return;
    const buffer = this.dash.getBufferLength(this.#kind);
    const next = this.#adapt.next({ level, best: this.#best, buffer, now: performance.now() });
    if (next !== level) this.#play(next);
  }

  /** Chased, whatever is further behind than the MPD's latency allows is fetched back to live. */
  chase(live) {
    this.dash.updateSettings({ streaming: { liveCatchup: { enabled: live } } });
  }

  get livePosition() {
    const { date, target } = this.latency;
    return date === null ? null : this.video.currentTime + date - target;
  }

  /** By the date alone: an MPD lists nothing that one could be behind of. */
  get latency() {
    const seconds = this.levels.length ? this.dash.getCurrentLiveLatency() : Number.NaN;
    const date = Number.isFinite(seconds) ? seconds : null;
    return { edge: null, date, target: date === null ? null : this.dash.getTargetLiveDelay() };
  }

  async isLive() {
    const answer = await fetch(this.url, { cache: "no-store" });
    return answer.ok && (await answer.text()).includes('type="dynamic"');
  }

  #initialized() {
    if (this.levels.length) return; // the next period
    const video = this.dash.getRepresentationsByType("video");
    this.#kind = video.length ? "video" : "audio";
    const found = video.length ? video : this.dash.getRepresentationsByType("audio");
    this.levels = found.map(({ id, width, height, bitrateInKbit, codecs }, index) => ({
      index,
      id,
      name: height ? `${height}p` : `${Math.round(bitrateInKbit)} kb/s`,
      width: width ?? 0,
      height: height ?? 0,
      kbps: Math.round(bitrateInKbit),
      codecs,
    }));
    const texts = this.dash.getTracksFor("text");
    this.texts = texts.map(({ lang, id }, index) => ({ index, name: lang || id }));
    this.tell.levels();
    this.tell.ready();
    if (this.dash.isDynamic()) this.#timer = setInterval(() => this.#follow(), ADAPT_MS);
    else this.#recorded();
  }

  #recorded() {
    if (this.recording) return;
    clearInterval(this.#timer);
    this.recording = true;
    this.#chooses(this.auto);
    this.tell.recorded();
  }

  #answered(answer, meter) {
    const { type, startDate } = answer.request.customData.request;
    if (answer.status < 200 || answer.status > 299) {
      this.#status = answer.status;
      meter.failed();
      return answer;
    }
    const kind = /Segment$/.test(type) ? "media" : "playlists";
    const field = (name) => answer.headers?.[name.toLowerCase()] ?? null;
    const size = answer.resourceTiming?.encodedBodySize || Number(field("Content-Length"));
    meter.answered(kind, field, size, startDate?.getTime() ?? Date.now());
    return answer;
  }

  #error({ code }) {
    if (code === CLOCK) return;
    const kind = KINDS[code] ?? "media";
    this.tell.failed({ kind, status: kind === "unreachable" ? this.#status : 0, codecs: "" });
  }
}
