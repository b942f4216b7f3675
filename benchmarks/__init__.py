"""liftscape and its peers on the same work; see README.md."""
