"""The permanent store and the recordings in it."""
