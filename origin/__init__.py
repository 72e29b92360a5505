"""The data centre half: one stream encoded once, packaged, stored and pushed to every POP."""
