"""Broadcasters with all their faults, and what a viewer saw of each."""
