"""A live-video edge cache: viewers are served by native workers, everything else by one asyncio
thread."""

__version__ = "0.1.0"
