"""The swarm's native code: header-only, compiled into bench/swarm/_swarm alone."""
