"""Programs behind bench/EXPERIMENTS.md: asked once, kept so that they can be asked again."""
