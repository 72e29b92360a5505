// What this viewer's requests cost and who answered them: read off every response of the player.
//
// Laws: counts only grow; the rates are of the last ten seconds. A response is a hit when its first
// Cache-Status member says so (RFC 9211). Does not know the player, only responses.

const WINDOW_MS = 10_000;
const NUDGE_S = 0.5; // less than anybody seeks

/** "pop-a; hit; detail=woken" -> {pop, hit, woken, collapsed}; null when there is no such field. */
export function parseCacheStatus(value) {
  if (!value) return null;
  const [name, ...parameters] = value.split(",")[0].split(";").map((word) => word.trim());
  return {
    pop: name.replace(/^"|"$/g, ""),
    hit: parameters.includes("hit"),
    woken: parameters.includes("detail=woken"),
    collapsed: parameters.includes("collapsed"),
  };
}

/** The server's clock less ours in ms: 0 unless the Date fields prove that ours is wrong. Each Date
 *  D, cut to the second and up to a second old, says: D <= server's now < D + 2 s. */
class Clock {
  #least = -Infinity;
  #most = Infinity;

  see(date, askedAt, answeredAt) {
    const served = Date.parse(date);
    if (Number.isNaN(served)) return;
    this.#least = Math.max(this.#least, served - answeredAt);
    this.#most = Math.min(this.#most, served + 2000 - askedAt);
  }

  get offsetMs() {
    const { least, most } = { least: this.#least, most: this.#most };
    if (least > most || (least <= 0 && most >= 0)) return 0;
    return (least + most) / 2;
  }
}

export class Meter {
  #recent = [];
  clock = new Clock();
  counts = {
    media: 0, playlists: 0, hits: 0, woken: 0, misses: 0, collapsed: 0, unattributed: 0, errors: 0,
    bytes: 0,
  };
  pops = {};

  /** One answered request. `field(name)` reads a response field, `kind` is media or playlists. */
  answered(kind, field, bytes, askedAt) {
    const now = Date.now();
    this.clock.see(field("Date"), askedAt, now);
    this.counts[kind] += 1;
    this.counts.bytes += bytes;
    this.#recent.push({ at: now, bytes });
    const status = parseCacheStatus(field("Cache-Status"));
    if (!status) {
      this.counts.unattributed += 1;
      return;
    }
    this.pops[status.pop] = (this.pops[status.pop] ?? 0) + 1;
    this.counts[status.hit ? "hits" : "misses"] += 1;
    if (status.woken) this.counts.woken += 1;
    if (status.collapsed) this.counts.collapsed += 1;
  }

  failed() {
    this.counts.errors += 1;
  }

  /** Requests and bits per second. */
  rates() {
    const from = Date.now() - WINDOW_MS;
    this.#recent = this.#recent.filter((each) => each.at >= from);
    if (!this.#recent.length) return { requests: 0, bits: 0 };
    const seconds = Math.max(1, (Date.now() - this.#recent[0].at) / 1000);
    const bytes = this.#recent.reduce((sum, each) => sum + each.bytes, 0);
    return { requests: this.#recent.length / seconds, bits: (bytes * 8) / seconds };
  }

  /** A loader for the player that tells this meter about every answer. */
  loader(Base) {
    const meter = this;
    return class extends Base {
      load(context, config, callbacks) {
        const askedAt = Date.now();
        const kind = context.frag ? "media" : "playlists";
        super.load(context, config, {
          ...callbacks,
          onSuccess(response, stats, ...rest) {
            const request = rest[1];
            const field = (name) => request?.getResponseHeader?.(name) ?? null;
            meter.answered(kind, field, stats.total || stats.loaded || 0, askedAt);
            callbacks.onSuccess(response, stats, ...rest);
          },
          onError(...args) {
            meter.failed();
            callbacks.onError(...args);
          },
          onTimeout(...args) {
            meter.failed();
            callbacks.onTimeout(...args);
          },
        });
      }
    };
  }
}

/** Standing still while it should move: counted from the first picture on, seeking left out, but
 * for the nudges that a library gives to what stands. */
export class Stalls {
  #since = null;
  #position = 0;
  #started = false;
  events = [];

  constructor(video) {
    video.addEventListener("playing", () => {
      this.#started = true;
      this.#end();
    });
    video.addEventListener("waiting", () => {
      if (!this.#started || video.seeking || video.ended || this.#since !== null) return;
      this.#since = performance.now();
      this.#position = video.currentTime;
    });
    video.addEventListener("timeupdate", () => {
      if (this.#since !== null && video.currentTime > this.#position + 0.05) this.#end();
    });
    video.addEventListener("seeking", () => {
      const nudged = Math.abs(video.currentTime - this.#position) < NUDGE_S;
      if (this.stalling && nudged) this.#position = video.currentTime;
      else this.#end();
    });
    for (const name of ["ended", "emptied"]) video.addEventListener(name, () => this.#end());
  }

  /** From here on the next picture is a first one. */
  restart() {
    this.#end();
    this.#started = false;
  }

  get stalling() {
    return this.#since !== null;
  }

  get count() {
    return this.events.length + (this.stalling ? 1 : 0);
  }

  get seconds() {
    const now = this.stalling ? (performance.now() - this.#since) / 1000 : 0;
    return this.events.reduce((sum, each) => sum + each.seconds, now);
  }

  /** {at, seconds} of each, at in seconds since the page began; the open one too. */
  all() {
    if (!this.stalling) return this.events;
    const seconds = (performance.now() - this.#since) / 1000;
    return [...this.events, { at: this.#since / 1000, seconds }];
  }

  #end() {
    if (this.#since === null) return;
    const seconds = (performance.now() - this.#since) / 1000;
    this.events.push({ at: this.#since / 1000, seconds });
    this.#since = null;
  }
}
