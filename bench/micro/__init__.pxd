"""Package marker for the native loops of bench/micro."""
