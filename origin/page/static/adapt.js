// Which rendition to play at the live edge, judged by whether media comes in time.
//
// A segment that is fetched while it is made takes as long as it takes to make, over any network:
// its bytes per second are the encoder's, and rules that divide one by the other end at the lowest
// rendition. What a slow network does is come late: the buffer shrinks.
//
// Laws: pure. Down one as soon as media is late; up one after it was in time for a while, which
// doubles each time going up has failed. Does not know players.

const LATE_S = 0.27; // less than a part in the buffer
const CALM_MS = 5000;
const CALM_MAX_MS = 120_000;

export class Adapt {
  #calmMs = CALM_MS;
  #since = null;
  #wentUp = false;

  /** The level to play from now on. `buffer`: seconds, `now`: ms, `best`: the highest of use. */
  next({ level, best, buffer, now }) {
    this.#since ??= now;
    const calm = now - this.#since >= this.#calmMs;
    if (buffer < LATE_S && level > 0) {
      if (this.#wentUp) this.#calmMs = Math.min(CALM_MAX_MS, 2 * this.#calmMs);
      return this.#turn(level - 1, now, false);
    }
    if (level > best) return this.#turn(best, now, false);
    if (level < best && calm && buffer >= LATE_S) return this.#turn(level + 1, now, true);
    return level;
  }

  #turn(level, now, up) {
    this.#since = now;
    this.#wentUp = up;
    return level;
  }
}
