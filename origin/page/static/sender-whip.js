// One broadcast over WebRTC (WHIP): less behind than a recording, but what is late is lost.
//
// Laws: the browser's own congestion control sets the bitrate, up to what was chosen. A connection
// that breaks is begun anew, and for viewers the same stream goes on. Where the POP has no WHIP,
// UDP does not get through to it, or the picture is in no codec that it takes so, that is
// `onNoWay`, once, when nothing of this is left there: the broadcast may go another way. Does not
// know the page.

const TYPE = "application/sdp";
const ASK_MS = 1000;
const SILENT_MS = 10000; // without an answer: as bad as a lost connection
const CONNECT_MS = 3000; // from the answer until media may go
const BROKEN_MS = 3000; // it may mend
const AGAIN_MS = [300, 600, 1200, 2500, 5000];
const SOUND_BITRATE = 128000;
const LOST = "The connection to the POP was lost.";

export class WhipSender {
  #peer = null;
  #session = "";
  #timers = [];
  #tries = 0;
  #mark = [0, 0]; // [ms, bytes] of the last rate
  #earlier = { bytes: 0, sent: 0, dropped: 0 }; // of connections before this one

  /** As Sender, and onNoWay(words): somebody else is to send; why, if the POP said so. */
  constructor({ url, key, title, bitrate, media, onTurn, onNoWay }) {
    Object.assign(this, { url, key, title, bitrate, media, onTurn, onNoWay });
    this.phase = "connecting";
    this.words = "";
    this.stream = "";
    this.way = "WebRTC";
    this.unit = "packets";
    this.chunks = { sent: 0, dropped: 0 };
    this.bytes = 0;
    this.received = 0; // by the data centre, which says only what lacks
    this.rate = 0; // bit/s
    this.waiting = 0; // what does not go is not waited for
    this.behind = false;
    this.trip = null; // ms
    this.begun = null; // performance.now() when it first was on air
    this.recordings = 0; // connections
    this.#connect();
  }

  /** The broadcast is over. */
  stop() {
    this.#leave();
    this.#turn("over", "");
  }

  async #connect() {
    const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.#peer = peer;
    const ours = () => this.#peer === peer;
    peer.onconnectionstatechange = () => ours() && this.#state(peer);
    try {
      const asked = await this.#say({ method: "OPTIONS" });
      if (asked.headers.get("Accept-Post") !== TYPE) return void (ours() && this.#giveUp());
      await this.#describe(peer);
      if (!ours()) return;
      // A goodbye; without this Chromium goes on until nobody answers ICE, for some 7 s.
      peer.getSenders()[0].transport?.addEventListener("statechange", ({ target }) => {
        if (ours() && target.state === "closed") this.#again(LOST);
      });
      const answer = await this.#offer(peer.localDescription.sdp);
      const said = await answer.text();
      const session = answer.headers.get("Location") ?? "";
      if (!ours()) return void end(session);
      if (answer.status !== 201) return void this.#refused(answer.status, said.trim());
      this.#session = session;
      this.stream = answer.headers.get("Edge-Stream");
      this.#timers.push(setTimeout(() => this.#giveUp(), CONNECT_MS));
      await peer.setRemoteDescription({ type: "answer", sdp: said });
    } catch (fault) {
      if (ours()) this.#failed(`The connection broke off: ${fault.message}.`);
    }
  }

  /** Pictures keep their size, since a new one is a break for viewers: fewer of them are sent. */
  async #describe(peer) {
    for (const track of this.media.getTracks()) {
      const sendEncodings = [
        { maxBitrate: track.kind === "video" ? this.bitrate : SOUND_BITRATE },
      ];
      const { sender } = peer.addTransceiver(track, { direction: "sendonly", sendEncodings });
      const degradationPreference = "maintain-resolution";
      await sender.setParameters({ ...sender.getParameters(), degradationPreference });
    }
    await peer.setLocalDescription();
  }

  #offer(sdp) {
    const headers = {
      Authorization: `Bearer ${this.key}`,
      "Content-Type": TYPE,
      "Edge-Title": encodeURIComponent(this.title),
    };
    return this.#say({ method: "POST", headers, body: sdp });
  }

  #say(request) {
    return fetch(this.url, { ...request, signal: AbortSignal.timeout(SILENT_MS) });
  }

  #refused(status, said) {
    if (status === 401) {
      this.#leave();
      this.#turn("over", `The POP refused the broadcast: ${said}.`);
    } else if (status === 409) {
      this.#again(`The POP says: ${said}.`);
    } else {
      this.#failed(`The POP says: ${said}.`);
    }
  }

  /** At the start another way may do; later this one did. */
  #failed(words) {
    if (this.begun) this.#again(words);
    else this.#giveUp(words);
  }

  #state(peer) {
    if (peer.connectionState === "connected") {
      this.#clear();
      this.#tries = 0;
      this.recordings += 1;
      this.begun ??= performance.now();
      this.#timers.push(setInterval(() => this.#ask(peer), ASK_MS));
      this.#turn("live", "");
    } else if (peer.connectionState === "disconnected") {
      this.#timers.push(setTimeout(() => this.#again(LOST), BROKEN_MS)); // connected: cleared
    } else if (peer.connectionState === "failed") {
      this.#failed(LOST);
    }
  }

  async #ask(peer) {
    const now = { bytes: 0, sent: 0, dropped: 0 };
    let [behind, trip] = [false, null];
    for (const [, each] of await peer.getStats()) {
      if (each.type === "outbound-rtp") {
        now.bytes += each.bytesSent;
        now.sent += each.packetsSent;
        behind ||= each.qualityLimitationReason === "bandwidth";
      } else if (each.type === "remote-inbound-rtp") {
        now.dropped += Math.max(0, each.packetsLost);
      } else if (each.nominated && each.currentRoundTripTime !== undefined) {
        trip = each.currentRoundTripTime * 1000;
      }
    }
    if (this.#peer !== peer) return;
    const { bytes, sent, dropped } = this.#earlier;
    const at = performance.now();
    const [since, before] = this.#mark;
    this.bytes = bytes + now.bytes;
    this.chunks = { sent: sent + now.sent, dropped: dropped + now.dropped };
    this.rate = since ? ((this.bytes - before) * 8000) / (at - since) : 0;
    this.#mark = [at, this.bytes];
    Object.assign(this, { behind, trip });
  }

  /** Begin anew, after a pause that grows while it does not hold; if the POP does not say that it
   *  ended the broadcast for good. */
  async #again(words) {
    const leaving = this.#leave();
    this.#turn("reconnecting", words);
    const why = await leaving;
    if (this.phase === "over") return;
    if (why) return void this.#turn("over", `The POP ended the broadcast: ${why}.`);
    const pause = AGAIN_MS[Math.min(this.#tries, AGAIN_MS.length - 1)];
    this.#tries += 1;
    this.#timers.push(setTimeout(() => this.#connect(), pause));
  }

  async #giveUp(words = "") {
    await this.#leave();
    if (this.phase !== "over") this.onNoWay(words);
  }

  /** Resolves when the POP has heard of it: to why it had ended it for good, "" if it had not. */
  #leave() {
    const [peer, session] = [this.#peer, this.#session];
    this.#clear();
    this.#peer = null;
    this.#session = "";
    this.#earlier = { bytes: this.bytes, ...this.chunks };
    this.#mark = [0, 0];
    this.rate = 0;
    const told = end(session);
    peer?.close();
    return told;
  }

  #clear() {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }

  #turn(phase, words) {
    Object.assign(this, { phase, words });
    this.onTurn();
  }
}

async function end(session) {
  if (!session) return "";
  const signal = AbortSignal.timeout(SILENT_MS);
  return fetch(session, { method: "DELETE", keepalive: true, signal })
    .then(async (told) => (told.status === 410 ? (await told.text()).trim() : ""))
    .catch(() => "");
}
