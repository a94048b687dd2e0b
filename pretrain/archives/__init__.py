"""Archives of data sets: where they come from, whether they are the right ones, and reading them safely."""
