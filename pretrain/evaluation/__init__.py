"""What a trained classifier is worth: accuracy."""
