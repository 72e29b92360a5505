// A small plot on a canvas: seconds behind live and seconds of buffer over the last two minutes.
//
// Laws: draws what it is given, at the screen's own resolution; colours come from the style sheet.

export const SPAN_S = 120;
const LEFT = 34;
const BOTTOM = 18;
const TOP = 6;

const ceiling = (value) => [1, 2, 4, 6, 10, 20, 30, 60, 120].find((step) => value <= step) ?? 300;

/** samples: [{at, latency, buffer}], stalls: [{at, seconds}], all in seconds; target: or null. */
export function draw(canvas, { samples, stalls, target, now }) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);

  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const values = samples.flatMap((each) => [each.latency ?? 0, each.buffer ?? 0]);
  const top = ceiling(Math.max(1, target ?? 0, ...values) * 1.02);
  const x = (at) => width - ((now - at) / SPAN_S) * (width - LEFT);
  const y = (value) => TOP + (1 - value / top) * (height - TOP - BOTTOM);

  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = colour("--quiet");
  pen.strokeStyle = colour("--line");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  for (const value of [0, top / 2, top]) {
    const line = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(LEFT, line);
    pen.lineTo(width, line);
    pen.stroke();
    pen.fillText(`${value} s`, 0, line);
  }
  pen.textBaseline = "alphabetic";
  for (const [ago, text] of [[SPAN_S, "−2 min"], [SPAN_S / 2, "−1 min"], [0, "now"]]) {
    pen.textAlign = ago === SPAN_S ? "left" : ago ? "center" : "right";
    pen.fillText(text, x(now - ago), height - 3);
  }
  pen.textAlign = "left";

  pen.save();
  pen.beginPath();
  pen.rect(LEFT, 0, width - LEFT, height);
  pen.clip();
  pen.fillStyle = "rgb(255 255 255 / 14%)";
  for (const { at, seconds } of stalls) {
    pen.fillRect(x(at), TOP, Math.max(2, x(at + seconds) - x(at)), height - TOP - BOTTOM);
  }
  const path = (key, stroke, thick) => {
    pen.beginPath();
    let before = null;
    for (const each of samples) {
      if (each[key] !== null) {
        const joined = before !== null && each.at - before < 2;
        pen[joined ? "lineTo" : "moveTo"](x(each.at), y(Math.min(each[key], top)));
        before = each.at;
      }
    }
    pen.strokeStyle = stroke;
    pen.lineWidth = thick;
    pen.lineJoin = "round";
    pen.stroke();
  };
  if (target !== null) {
    pen.setLineDash([3, 4]);
    pen.beginPath();
    pen.moveTo(LEFT, y(target));
    pen.lineTo(width, y(target));
    pen.strokeStyle = colour("--quiet");
    pen.stroke();
    pen.setLineDash([]);
  }
  path("buffer", "#59616b", 1.25);
  path("latency", colour("--accent"), 2);
  pen.restore();
}
