"""What runs left behind, read and set beside the paper's tables; for tools/paper_tables.py and tools/report.py."""
