"""Package marker for the native code of bench/swarm."""
