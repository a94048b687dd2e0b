"""Score maps: of a classifier by one of several methods, or from disk."""
