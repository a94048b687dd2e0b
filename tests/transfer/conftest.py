"""Its presence puts this folder on the import path: `networks` and `voc_tree` serve the tests below it, too."""
