// What a recording shows where the pointer is on the bar: a small picture and its time.
//
// Laws: pictures and times come from the recording's storyboard (WebVTT, a place in a sheet of
// pictures for each stretch of time); a recording has one some seconds after its end, so it is
// asked for a few times. Without one, or while the bar is not the whole recording, only the time is
// shown. Knows no player.

const byId = (id) => document.getElementById(id);
const AGAIN_MS = 10_000;
const TIMES_MAX = 6;
const NEAR_S = 5; // a bar and a storyboard that differ by more are not of the same recording

const CUE = /([\d:.]+) --> ([\d:.]+)\s*\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g;

const seconds = (clock) => clock.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);

/** [{start, end, url, x, y, width, height}], by start. */
export function parse(text, base) {
  return [...text.matchAll(CUE)].map(([, start, end, url, ...place]) => {
    const [x, y, width, height] = place.map(Number);
    const at = { start: seconds(start), end: seconds(end) };
    return { ...at, url: new URL(url, base).href, x, y, width, height };
  });
}

export class Preview {
  #cues = [];
  #asked = 0;
  #timer = 0;

  constructor(bar, time) {
    this.bar = bar;
    this.time = time; // seconds to words
    bar.addEventListener("pointermove", (event) => this.#show(event));
    bar.addEventListener("pointerleave", () => this.#hide());
  }

  /** Fetch the storyboard of the recording in the folder `base`, once it is there. */
  async load(base) {
    clearTimeout(this.#timer);
    if (this.#cues.length || this.#asked >= TIMES_MAX) return;
    this.#asked += 1;
    const url = new URL(`${base}storyboard.vtt`, location.href);
    const answer = await fetch(url).catch(() => null);
    if (answer?.ok) this.#cues = parse(await answer.text(), url);
    else this.#timer = setTimeout(() => this.load(base), AGAIN_MS);
  }

  get loaded() {
    return this.#cues.length;
  }

  #show(event) {
    const { bar } = this;
    const box = bar.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const length = Number(bar.max);
    const at = share * length;
    const whole = Math.abs(length - (this.#cues.at(-1)?.end ?? 0)) < NEAR_S;
    const cue = whole ? this.#cues.findLast(({ start }) => start <= at) : undefined;
    this.#picture(cue);
    byId("preview-time").textContent = this.time(at);
    const place = byId("preview");
    place.hidden = bar.disabled || !cue;
    const half = place.offsetWidth / 2;
    const stage = place.parentElement.getBoundingClientRect();
    const centre = event.clientX - stage.left;
    place.style.left = `${Math.min(Math.max(centre, half + 8), stage.width - half - 8)}px`;
  }

  #picture(cue) {
    if (!cue) return;
    const { style } = byId("preview-picture");
    style.width = `${cue.width}px`;
    style.height = `${cue.height}px`;
    style.backgroundImage = `url("${cue.url}")`;
    style.backgroundPosition = `-${cue.x}px -${cue.y}px`;
  }

  #hide() {
    byId("preview").hidden = true;
  }
}
