"""Many detection runs in the form of the paper's Table 7, and whether their differences are more than chance."""
