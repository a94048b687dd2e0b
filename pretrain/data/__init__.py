"""Data sets, transforms and loaders for pretraining, and the semi-synthetic demo scenes."""
