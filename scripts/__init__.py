"""Scripts of the repository. A package, so that no other `scripts` on the path is found first."""
