// The buttons under the picture and the keys that do the same.
//
// Laws: every control is a real button, range or menu with a name; keys are left alone while a
// field has the focus. Knows the player by its methods only.

import { Preview } from "./preview.js";

const byId = (id) => document.getElementById(id);
const IDLE_MS = 2500;
const BEHIND_S = 3; // so far behind its target the way back to live is offered

export const time = (seconds) => {
  const whole = Math.max(0, Math.floor(seconds));
  const rest = `${Math.floor(whole / 60) % 60}`.padStart(whole >= 3600 ? 2 : 1, "0");
  const tail = `${rest}:${String(whole % 60).padStart(2, "0")}`;
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${tail}` : tail;
};

export class Controls {
  #seeking = false;
  #known = { latency: null, target: null };
  #idle = 0;

  constructor(player) {
    this.player = player;
    this.video = player.video;
    this.preview = new Preview(byId("seek"), time);
    this.#buttons();
    this.#ranges();
    this.#stage();
    document.addEventListener("keydown", (event) => this.#key(event));
    player.addEventListener("levels", () => this.#menu());
  }

  /** Follow the picture: position, buttons. `latency` and `target` in seconds, or null. */
  update({ latency, target }) {
    this.#known = { latency, target };
    const { video, player } = this;
    const range = player.range;
    const seek = byId("seek");
    seek.disabled = !range;
    const [start, end] = range ?? [0, 0];
    const live = !player.recording && player.phase !== "recording";
    const behind = live && latency !== null && latency - (target ?? 0) > BEHIND_S;
    if (range && !this.#seeking) {
      seek.max = Math.max(1, Math.floor(end - start));
      const atEdge = live && player.chasing && !behind && !video.paused;
      seek.value = atEdge ? seek.max : video.currentTime - start;
    }
    const at = this.#seeking ? Number(seek.value) : video.currentTime - start;
    const away = this.#seeking ? seek.max - at : behind ? latency : 0;
    const length = end - start;
    byId("clock").value = live ? this.#ago(away, length) : `${time(at)} / ${time(length)}`;
    seek.setAttribute("aria-valuetext", byId("clock").value);
    byId("edge").hidden = !live;
    this.#flag("edge", live && player.chasing && !behind, ["Go live", "Live"]);
    this.#flag("play", !video.paused, ["Play", "Pause"]);
    this.#flag("mute", video.muted || video.volume === 0, ["Mute", "Unmute"]);
    this.#flag("full", document.fullscreenElement !== null, ["Full screen", "Leave full screen"]);
  }

  /** Where in the window: seconds behind live, of how many there are to go back. */
  #ago(behind, length) {
    const window = `${time(length)} back`;
    return behind >= 1 ? `−${time(behind)} of ${window}` : window;
  }

  #flag(id, on, [off, turned]) {
    const button = byId(id);
    if (button.dataset.on === String(on)) return;
    button.dataset.on = String(on);
    button.setAttribute("aria-label", on ? turned : off);
  }

  #buttons() {
    byId("play").addEventListener("click", () => this.#toggle());
    byId("mute").addEventListener("click", () => this.#mute());
    byId("full").addEventListener("click", () => this.#full());
    byId("edge").addEventListener("click", () => this.player.goLive());
    byId("quality").addEventListener("change", (event) => {
      this.player.engine?.select(Number(event.target.value));
    });
    byId("text").addEventListener("change", (event) => {
      this.player.engine?.read(Number(event.target.value));
    });
    this.video.addEventListener("click", () => this.#toggle());
    this.video.addEventListener("dblclick", () => this.#full());
  }

  #ranges() {
    const seek = byId("seek");
    seek.addEventListener("input", () => {
      this.#seeking = true;
      this.update(this.#known);
    });
    seek.addEventListener("change", () => {
      this.#seeking = false;
      const range = this.player.range;
      if (!range) return;
      if (seek.value === seek.max && !this.player.recording) this.player.goLive();
      else this.player.seek(range[0] + Number(seek.value));
    });
    byId("volume").addEventListener("input", (event) => {
      this.video.muted = false;
      this.video.volume = event.target.value / 100;
    });
  }

  /** The controls leave the picture alone while nobody moves. */
  #stage() {
    const stage = byId("stage");
    const wake = () => {
      stage.dataset.idle = "false";
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => {
        stage.dataset.idle = String(!this.video.paused);
      }, IDLE_MS);
    };
    for (const name of ["pointermove", "pointerdown", "focusin"]) {
      stage.addEventListener(name, wake);
    }
    this.video.addEventListener("pause", wake);
    this.video.addEventListener("play", wake);
    wake();
  }

  #menu() {
    const { levels } = this.player;
    const menu = byId("quality");
    const wanted = menu.value;
    const choices = [...levels].reverse().map(({ index, name, kbps, height }) => {
      return new Option(height ? `${name} · ${kbps} kb/s` : name, index);
    });
    if (menu.options.length !== choices.length + 1) {
      menu.replaceChildren(new Option("Auto", -1), ...choices);
      menu.value = wanted;
    }
    const playing = levels[this.player.engine?.level ?? -1];
    menu.options[0].text = playing ? `Auto (${playing.name})` : "Auto";
    if (menu.value !== "-1") menu.options[0].text = "Auto";
    this.#texts();
  }

  #texts() {
    const { texts } = this.player;
    const menu = byId("text");
    byId("texts").hidden = !texts.length;
    if (menu.options.length === texts.length + 1) return;
    menu.replaceChildren(new Option("Off", -1), ...texts.map((t) => new Option(t.name, t.index)));
  }

  #toggle() {
    if (this.video.paused) this.player.play();
    else this.video.pause();
  }

  #mute() {
    this.video.muted = !this.video.muted;
  }

  #full() {
    if (document.fullscreenElement) document.exitFullscreen();
    else byId("stage").requestFullscreen?.();
  }

  #step(seconds) {
    const range = this.player.range;
    if (!range) return;
    const at = this.video.currentTime + seconds;
    this.player.seek(Math.min(Math.max(at, range[0]), range[1]));
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, a")) return;
    if (event.target.matches("button") && (event.key === " " || event.key === "Enter")) return;
    const deed = {
      " ": () => this.#toggle(),
      k: () => this.#toggle(),
      m: () => this.#mute(),
      f: () => this.#full(),
      l: () => this.player.goLive(),
      ArrowLeft: () => this.#step(-5),
      ArrowRight: () => this.#step(5),
    }[event.key];
    if (!deed) return;
    event.preventDefault();
    deed();
  }
}
