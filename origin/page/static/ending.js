// What hls.js 1.7.4 does wrong where what there is ends, sound later than picture or earlier.
//
// Laws: a recording has ended when each track reaches, from where one is, to the end of its
// playlist; hls.js looks for the end of one track in what all of them have, and would wait for
// ever. Who has played past the last picture waits there; hls.js would show the last second again
// and again.

const SLACK_S = 0.05; // a last part of one or two frames of sound may never be fetched
const PAST_S = 1; // further than that past the end is another timeline

/** The stream controller of hls.js, but for that. */
export function waitingAtTheEnd(StreamController) {
  return class extends StreamController {
    synchronizeToLiveEdge(details) {
      const past = (this.media?.currentTime ?? 0) - details.edge;
      if (past <= 0 || past > PAST_S) super.synchronizeToLiveEdge(details);
    }
  };
}

/** Tell `hls` (an instance; `Events`: its class's), for as long as it lives, when all of a
 * recording is there. */
export function letEnd(hls, Events) {
  const ends = {}; // of the playlists that are complete, by track, in seconds
  let ranges = {}; // TimeRanges by track

  const reaches = (track) => {
    const end = track === "audio" && hls.audioTracks.length ? ends.audio : ends.main;
    const at = hls.media?.currentTime ?? 0;
    const buffered = ranges[track];
    const begun = (index) => buffered.start(index) - SLACK_S <= at;
    const from = Array.from(buffered, (_, index) => index).findLast(begun);
    return from !== undefined && buffered.end(from) >= end - SLACK_S;
  };

  const look = () => {
    const tracks = Object.keys(ranges);
    if (tracks.length && tracks.every(reaches)) hls.trigger(Events.BUFFER_EOS, {});
  };

  const listed = (track, details) => {
    ends[track] = details.live ? undefined : details.edge;
    look();
  };

  hls.on(Events.LEVEL_UPDATED, (_name, { details }) => listed("main", details));
  hls.on(Events.AUDIO_TRACK_UPDATED, (_name, { details }) => listed("audio", details));
  hls.on(Events.BUFFER_APPENDED, (_name, { timeRanges }) => {
    ranges = timeRanges;
    look();
  });
}
