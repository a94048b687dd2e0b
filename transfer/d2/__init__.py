"""Fine-tuning in Detectron2. Importing this package makes the installed Detectron2 usable (transfer.compat)."""

from transfer.compat import prepare_detectron2

prepare_detectron2()
