"""How streams are encoded and kept: the configuration in the terms of those who do it.

Law: what no playlist could be made of is refused before anybody publishes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from edgecache.errors import ConfigError

from . import encoder, health, ladder, remote, sharing
from .config import Config
from .ladder import Plan
from .presentation import Presentation
from .slate import Slate
from .timing import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How streams are encoded and kept; times in seconds."""

    plan: Plan
    parts: int = 8  # a segment
    window_s: float = 30.0
    dvr_s: float = 0.0
    reconnect_s: float = 30.0
    resume_s: float = 60.0
    # A file sent without pacing would be encoded as fast as the machine can, dates running ahead:
    # media may be this much ahead of the clock before the publisher is slowed down to it.
    lead_s: float = 5.0
    encoder: encoder.Limits = field(default_factory=encoder.Limits)
    finder: remote.Finder | None = None  # of workers, for the rungs that are not made here
    remote: remote.Limits = field(default_factory=remote.Limits)
    health: health.Limits = field(default_factory=health.Limits)

    def first_msn(self, least: int | None, now_s: float) -> int | None:
        """Of the next broadcast of a stream, whose numbers begin with `least` at least. Versions of
        a playlist grow across epochs, too; repeated GOPs may have run ahead of the clock."""
        return None if least is None else max(least, int(now_s / self.plan.segment_s))

    def present(
        self, plan: Plan, stream: str, *, epoch: str, first_msn: int | None
    ) -> Presentation:
        """A new stream that is made by `plan`. Raises ValueError."""
        return Presentation(
            stream,
            epoch=epoch,
            renditions=ladder.renditions(plan),
            segment_s=plan.segment_s,
            part_s=plan.segment_s / self.parts,
            window_s=self.window_s,
            dvr_s=self.dvr_s,
            first_msn=first_msn,
        )

    def fit(self, made: Presentation) -> bool:
        """Could this one go on with what another process made?"""
        timing, plan = made.timing, self.plan
        grid = round(plan.segment_s * 1000), self.parts
        planned = ladder.renditions(ladder.only(plan, made.planned))
        return (timing.segment_ms, timing.parts) == grid and made.planned == planned


def timing_of(settings: Settings) -> Timing:
    """The grid of the streams that are encoded so. Raises ValueError."""
    return Timing.plan(
        ladder.renditions(settings.plan),
        segment_s=settings.plan.segment_s,
        part_s=settings.plan.segment_s / settings.parts,
        window_s=settings.window_s,
    )


def settings_of(config: Config) -> Settings:
    """The encoding half of the configuration. Raises ConfigError when no playlist could be made of
    it: before anybody publishes."""
    settings = Settings(
        plan=ladder.plan_of(config),
        parts=config.live.parts,
        window_s=config.live.window / 1000,
        dvr_s=config.live.dvr / 1000,
        reconnect_s=config.live.reconnect / 1000,
        resume_s=config.live.resume / 1000,
    )
    slow = replace(settings, plan=ladder.fit(settings.plan, (0, 0), 1.0))  # for a slow source
    if problem := _away(config, settings.plan):
        raise ConfigError([problem])
    try:
        timing_of(settings)
        timing_of(slow)
    except ValueError as error:
        raise ConfigError([f"live: {error}"]) from None
    return settings


def _away(config: Config, plan: Plan) -> str:
    """What is wrong with the rungs that workers are to encode, "" for nothing."""
    if track := sharing.homeless(plan):
        allowed = "here, or above a rung of the same codec that is encoded here"
        return f"ladder.{track}.on: found workers, allowed {allowed}"
    anywhere = config.http.listen.rpartition(":")[0] in ("0.0.0.0", "[::]")
    if sharing.given_away(plan).rungs and anywhere and not config.http.public:
        return "http.public: found none, allowed a URL where rungs are on workers"
    return ""


def slate_of(config: Config) -> Slate | None:
    """None: nothing is shown."""
    told = config.slate
    if told.show == "nothing":
        return None
    still = told.still if told.show == "still" else None
    colour = told.colour.replace("#", "0x")
    return Slate(colour=colour, still=still, after_s=told.after / 1000)
