// The browser's own HLS as an engine, where no library can work. What an engine is: player.js.
//
// Laws: it plays or fails; there is nothing to choose or to measure.

const HLS = "application/vnd.apple.mpegurl";

export class NativeEngine {
  static get supported() {
    return document.createElement("video").canPlayType(HLS) !== "";
  }

  levels = [];
  texts = [];
  level = -1;
  auto = true;
  recording = false;
  livePosition = null;
  latency = { edge: null, date: null, target: null };
  #quiet = new AbortController();

  constructor(video, base, _meter, tell) {
    this.video = video;
    const { signal } = this.#quiet;
    video.addEventListener("loadedmetadata", () => tell.ready(), { signal });
    video.addEventListener("progress", () => tell.progress(), { signal });
    video.addEventListener("error", () => this.#error(tell), { signal });
    video.src = `${base}master.m3u8`;
  }

  destroy() {
    this.#quiet.abort();
    this.video.removeAttribute("src");
    this.video.load();
  }

  select() {}

  read() {}

  chase() {}

  async isLive() {
    return true;
  }

  #error(tell) {
    const undecodable = this.video.error?.code === MediaError.MEDIA_ERR_DECODE;
    tell.failed({ kind: undecodable ? "media" : "unreachable", status: undecodable ? 0 : 404 });
  }
}
