// Why it does not play, in words: from an engine's fault to what a person is told and what is next.
//
// Laws: pure. `again_s` says when to try again by itself (null: no use), `kind` how loud: "cover"
// hides the picture, "strip" stands on it. Does not know the page.

const cover = (title, text, again_s = null) => ({ kind: "cover", title, text, again_s });

export const SAYINGS = {
  connecting: cover("Connecting", ""),
  offline: cover(
    "The stream is offline",
    "Nobody is broadcasting here right now. This page starts by itself when somebody does.",
    3,
  ),
  gone: cover("There is no such recording", "It was deleted, or never kept."),
  unsupported: cover(
    "This browser cannot play the stream",
    "It has neither Media Source Extensions nor HLS of its own.",
  ),
  noLibrary: cover(
    "The player did not load",
    "The library that plays it could not be fetched. Trying again by itself.",
    2,
  ),
  unreachable: cover(
    "No connection to the POP",
    "Your network or the POP is away. Trying again by itself.",
    2,
  ),
  busy: cover(
    "The POP is draining or overloaded",
    "It asked to come back in a moment. Retrying by itself.",
    2,
  ),
  noOrigin: cover(
    "The POP cannot reach the data centre",
    "Nothing is wrong on your side. Retrying by itself.",
    2,
  ),
  refused: (status) =>
    cover("The POP refused the stream", `It answered ${status}. Retrying by itself.`, 5),
  garbled: cover("The stream cannot be read", "The playlist is not valid. Retrying by itself.", 5),
  undecodable: (codecs) =>
    cover(
      `Your browser cannot decode ${codecs || "this stream"}`,
      "Another browser, or one with the codec installed, plays it.",
    ),
  broken: cover("The picture could not be decoded", "Starting over by itself.", 2),
  signal: {
    kind: "strip",
    title: "The broadcaster's signal has stopped",
    text: "Playback goes on by itself when it is back.",
  },
  slow: {
    kind: "strip",
    title: "Buffering",
    text: "The media is late: your connection, or the POP's, is slower than the picture.",
  },
  recording: { kind: "strip", title: "The stream has ended: playing the recording", text: "" },
  closing: {
    kind: "strip",
    title: "The stream has ended",
    text: "",
    action: "Watch the recording",
  },
  over: (length) => ({
    ...cover("The stream has ended", `What was kept of it lasts ${length}.`),
    action: "Watch the recording",
  }),
  again: { kind: "strip", title: "Live again", text: "", action: "Watch live" },
  blocked: { ...cover("Ready", ""), action: "Play" },
  muted: { kind: "strip", title: "Sound is off", text: "", action: "Turn on" },
};

/** What a fault of an engine means. kind: codecs, media, garbled, unreachable. status: of the
 * answer, 0 when there was none. kept: it is a recording that is played. */
export function sayingFor({ kind, status, codecs }, kept) {
  if (kind === "codecs") return SAYINGS.undecodable(codecs);
  if (kind === "media") return SAYINGS.broken;
  if (status === 404 || status === 410) return kept ? SAYINGS.gone : SAYINGS.offline;
  if (status === 429 || status === 503) return SAYINGS.busy;
  if (status === 502 || status === 504) return SAYINGS.noOrigin;
  if (status >= 400) return SAYINGS.refused(status);
  if (kind === "garbled") return SAYINGS.garbled;
  return SAYINGS.unreachable;
}
