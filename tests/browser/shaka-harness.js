// shaka-player on the MPD of the stream in the query, sampled like the watch page.

const SAMPLE_MS = 250;
const video = document.getElementById("video");
const stream = new URL(location.href).searchParams.get("stream");
const player = new shaka.Player();
const history = [];
const stalls = [];
let moving = false;

/** In low latency: by default shaka starts where classic players do, and stays. It counts from the
 * end of what may be sought, which is most of a second behind the date. */
const config = (target) => ({
  manifest: { defaultPresentationDelay: 0, dash: { ignoreSuggestedPresentationDelay: true } },
  streaming: {
    lowLatencyMode: true,
    liveSync: { enabled: true, targetLatency: target, targetLatencyTolerance: 0.1 },
  },
});

function sample() {
  const playing = player.getVariantTracks().find((track) => track.active);
  const date = player.getPlayheadTimeAsDate();
  if (!moving || !playing || !date) return;
  const at = performance.now() / 1000;
  history.push({ at, date: (Date.now() - date.getTime()) / 1000, level: `${playing.height}p` });
}

function figures() {
  const frames = video.getVideoPlaybackQuality();
  return {
    phase: moving ? "live" : "connecting",
    playing: !video.paused && video.readyState > 2,
    position: video.currentTime,
    stalls: { events: stalls },
    frames: { total: frames.totalVideoFrames, dropped: frames.droppedVideoFrames },
    errors: window.__edgecache.errors,
  };
}

window.__edgecache = { figures, history, player, errors: [] };
player.addEventListener("error", ({ detail }) => window.__edgecache.errors.push(detail.code));
video.addEventListener("playing", () => { moving = true; });
video.addEventListener("waiting", () => {
  if (moving) stalls.push({ at: performance.now() / 1000 });
});

async function start() {
  const url = `/live/${stream}/manifest.mpd`;
  const target = /target="(\d+)"/.exec(await (await fetch(url)).text())[1] / 1000;
  await player.attach(video);
  player.configure(config(target));
  await player.load(url);
  await video.play();
}

setInterval(sample, SAMPLE_MS);
start().catch((error) => window.__edgecache.errors.push(String(error)));
