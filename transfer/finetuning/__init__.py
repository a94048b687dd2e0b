"""What the fine-tuning in Detectron2 and that in MMDetection have in common."""
