// Read in the page, frame by frame, the time burnt into the test pattern; see glass.py.
(bits, part) => {
  const CELL = 10; // canvas pixels a bit; the one in the middle is read
  const video = document.querySelector("video");
  const canvas = Object.assign(document.createElement("canvas"), { width: CELL * bits, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const glass = { frames: [], unread: 0, parts: [] };
  const number = (digits) => digits.reduce((sum, bit) => sum * 2 + bit, 0);
  /** ms from `since` to `until`, both unix ms, of the first only the low 32 bits. */
  const between = (since, until) => ((until % 2 ** 32) - since + 2 ** 31) % 2 ** 32 - 2 ** 31;

  /** The low 32 bits of the unix ms at which the frame was made; null without a sound barcode. */
  function burnt() {
    const strip = video.videoHeight / part;
    const from = [0, video.videoHeight - strip * 0.75, video.videoWidth, strip * 0.5];
    context.drawImage(video, ...from, 0, 0, canvas.width, 1);
    const { data } = context.getImageData(0, 0, canvas.width, 1);
    const read = Array.from({ length: bits }, (_, bit) => {
      return data[4 * (CELL * bit + CELL / 2) + 1] > 127 ? 1 : 0;
    });
    const time = number(read.slice(0, 32));
    return (time % 256) + number(read.slice(32)) === 255 ? time : null;
  }

  function see(_now, frame) {
    video.requestVideoFrameCallback(see);
    const made = burnt();
    if (made === null) {
      glass.unread += 1;
      return;
    }
    const at = performance.now();
    const date = window.__edgecache.player.engine?.hls?.playingDate?.getTime() ?? null;
    const ahead = 1000 * (video.currentTime - frame.mediaTime);
    glass.frames.push({
      at: at / 1000,
      ms: between(made, Date.now() + frame.expectedDisplayTime - at),
      dated: date === null ? null : between(made, date - ahead),
      height: video.videoHeight,
    });
  }

  // What the POP says about each part (Server-Timing), and how long its first byte took.
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (!entry.serverTiming?.length || !entry.name.split("?")[0].endsWith(".m4s")) continue;
      const hops = entry.serverTiming.map(({ name, duration }) => [name, duration]);
      glass.parts.push({
        at: entry.responseEnd / 1000,
        video: !entry.name.includes("/audio/"),
        ...Object.fromEntries(hops),
        fetch: entry.responseEnd - entry.requestStart,
      });
    }
  }).observe({ type: "resource" });
  video.requestVideoFrameCallback(see);
  window.__glass = glass;
}
