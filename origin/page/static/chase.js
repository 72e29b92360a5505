// Keeps a live picture at its distance from the edge by playing a little faster or slower.
//
// Law: only by rate, never by a jump: who is further behind than MAX_BEHIND_S has gone there. What
// hls.js 1.7.4 has for it acts only with more than a second buffered, which a low-latency stream
// never has: it stays 0.3 s further behind than the playlist's hold-back asks.

const NEAR_S = 0.03; // closer than that is there
const FASTER = 0.08; // speech and music bear it unheard
const SLOWER = 0.05;
const GAIN = 0.5; // of the rate, per second that is to be made up
const BUFFER_S = 0.2; // with less to play, haste would end in a stall
const MAX_BEHIND_S = 3;

/** The rate at which to play. `behind`: seconds behind where one ought to be, less than zero when
 * ahead; `buffered`: seconds there are to play. */
export function rateFor(behind, buffered) {
  if (Math.abs(behind) < NEAR_S || behind > MAX_BEHIND_S) return 1;
  if (behind > 0 && buffered < BUFFER_S) return 1;
  const change = Math.min(FASTER, Math.max(-SLOWER, GAIN * behind));
  return 1 + Math.round(100 * change) / 100;
}

export function bufferedAhead(video) {
  const { buffered, currentTime } = video;
  for (let at = 0; at < buffered.length; at += 1) {
    if (buffered.start(at) <= currentTime && currentTime < buffered.end(at)) {
      return buffered.end(at) - currentTime;
    }
  }
  return 0;
}
