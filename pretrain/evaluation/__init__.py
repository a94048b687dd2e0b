"""What a trained classifier is worth: accuracy, calibration, robustness, mixed images, pictures."""
