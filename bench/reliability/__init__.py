"""What servers do when origins die, requests lie and processes go: the same cases for all."""
