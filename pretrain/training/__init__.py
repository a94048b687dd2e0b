"""Settings, the training loop and what it keeps."""
