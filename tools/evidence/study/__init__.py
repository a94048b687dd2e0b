"""A study of the mixing methods that two CPU cores can repeat: its cells, its records, its tables and curves."""
