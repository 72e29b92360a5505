// One broadcast: what a MediaRecorder writes, over a WebSocket to the POP, for as long as it lasts.
//
// Laws: a connection carries one recording from its first byte, since a container cannot begin in
// its middle: whatever ends one, the next has a recorder of its own, and for viewers the same
// stream goes on. What would come too late is dropped whole: with more than BEHIND_S of media
// waiting, the connection is given up for a new one, at less bitrate. Tries again by itself for as
// long as it may help, and says in words why it does not. Does not know the page.

export const TYPES = [
  "video/x-matroska;codecs=avc1,opus",
  "video/webm;codecs=h264,opus", // the same bytes, by Chromium's older name
  "video/mp4;codecs=avc1.42E01F,mp4a.40.2",
  "video/mp4;codecs=avc1,opus",
  "video/webm;codecs=vp8,opus", // the data centre encodes it once more
];
const CHUNK_MS = 250;
const KEY_FRAMES_MS = 2000;
const ASK_MS = 1000;
const SILENT_MS = 10000; // without an answer: as bad as a lost connection
const BEHIND_S = 3;
const AGAIN_MS = [300, 600, 1200, 2500, 5000];
const LEAST_BITRATE = 300000;
const SOUND_BITRATE = 128000;

/** The first type that this browser records and the data centre takes; "" for none. */
export function typeOf(recorder = window.MediaRecorder) {
  return TYPES.find((type) => recorder?.isTypeSupported(type)) ?? "";
}

export class Sender {
  #socket = null;
  #recorder = null;
  #timers = [];
  #tries = 0;
  #mark = [0, 0]; // [ms, bytes] of the last rate

  /** onTurn() whenever `phase` or `words` changed. Phases: connecting, live, reconnecting, over. */
  constructor({ url, key, title, type, bitrate, media, onTurn }) {
    Object.assign(this, { url, key, title, type, bitrate, media, onTurn });
    this.phase = "connecting";
    this.words = "";
    this.stream = "";
    this.way = "recording";
    this.unit = "chunks";
    this.chunks = { sent: 0, dropped: 0 };
    this.bytes = 0;
    this.received = 0; // by the POP, of the running recording
    this.rate = 0; // bit/s
    this.trip = null; // ms
    this.begun = null; // performance.now() when it first was on air
    this.recordings = 0;
    this.#connect();
  }

  /** Bytes that wait in this browser. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** The connection is slower than the picture: a second waits. */
  get behind() {
    return this.waiting * 8 > this.bitrate;
  }

  /** The broadcast is over: what was recorded last is sent first. */
  stop() {
    const [socket, recorder] = this.#leave();
    if (recorder?.state === "recording") {
      recorder.onstop = () => socket.close(1000);
      recorder.stop();
    } else {
      socket?.close(1000);
    }
    this.#turn("over", "");
  }

  #connect() {
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    this.received = 0;
    let heard = performance.now();
    const ours = (deed) => (event) => this.#socket === socket && deed(event);
    socket.onopen = ours(() => {
      socket.send(JSON.stringify({ key: this.key, type: this.type, title: this.title }));
    });
    socket.onmessage = ours(({ data }) => {
      heard = performance.now();
      this.#told(JSON.parse(data));
    });
    socket.onclose = ours(() => this.#again("The connection to the POP was lost."));
    this.#every(ASK_MS, () => {
      if (performance.now() - heard > SILENT_MS) {
        this.#again("The POP does not answer.");
      } else if (this.phase === "live") {
        this.#ask();
      }
    });
  }

  #told({ stream, error, again, t, received }) {
    if (error && again) {
      this.#again(`The POP says: ${error}.`);
    } else if (error) {
      this.#drop();
      this.#turn("over", `The POP refused the broadcast: ${error}.`);
    } else if (stream) {
      this.stream = stream;
      this.#record();
    } else {
      this.trip = performance.now() - Number(t);
      this.received = received;
      this.#tries = 0; // it holds
    }
  }

  #record() {
    const socket = this.#socket;
    const recorder = new MediaRecorder(this.media, {
      mimeType: this.type,
      videoBitsPerSecond: this.bitrate,
      audioBitsPerSecond: SOUND_BITRATE,
      videoKeyFrameIntervalDuration: KEY_FRAMES_MS,
    });
    this.#recorder = recorder;
    recorder.ondataavailable = ({ data }) => {
      if (!data.size || socket.readyState !== WebSocket.OPEN) return;
      socket.send(data);
      this.chunks.sent += 1;
      this.bytes += data.size;
      this.#behind();
    };
    recorder.onerror = ({ error }) => this.#again(`The recording broke off: ${error.message}.`);
    recorder.start(CHUNK_MS);
    this.recordings += 1;
    this.begun ??= performance.now();
    this.#turn("live", "");
  }

  #ask() {
    const now = performance.now();
    const [since, bytes] = this.#mark;
    this.rate = since ? ((this.bytes - bytes) * 8000) / (now - since) : 0;
    this.#mark = [now, this.bytes];
    this.#socket.send(String(now));
  }

  #behind() {
    if (this.phase !== "live" || this.waiting * 8 < this.bitrate * BEHIND_S) return;
    this.chunks.dropped += Math.ceil((BEHIND_S * 1000) / CHUNK_MS);
    this.bitrate = Math.max(LEAST_BITRATE, Math.round(this.bitrate * 0.6));
    this.#again("Your connection is slower than the picture: going on with less.");
  }

  /** Begin anew, after a pause that grows while it does not hold. */
  #again(words) {
    this.#drop();
    this.#turn("reconnecting", words);
    const pause = AGAIN_MS[Math.min(this.#tries, AGAIN_MS.length - 1)];
    this.#tries += 1;
    this.#timers.push(setTimeout(() => this.#connect(), pause));
  }

  #drop() {
    const [socket, recorder] = this.#leave();
    socket?.close();
    if (recorder?.state === "recording") recorder.stop();
  }

  /** What runs is nobody's from now on: [its socket, its recorder]. */
  #leave() {
    for (const timer of this.#timers) clearTimeout(timer);
    const left = [this.#socket, this.#recorder];
    this.#timers = [];
    this.#socket = this.#recorder = null;
    this.#mark = [0, 0];
    this.rate = 0;
    return left;
  }

  #every(ms, deed) {
    this.#timers.push(setInterval(deed, ms));
  }

  #turn(phase, words) {
    Object.assign(this, { phase, words });
    this.onTurn();
  }
}
