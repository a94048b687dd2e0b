"""Faster R-CNN in Detectron2: config, exact weights, data, training, evaluation.

Importing this package makes the installed Detectron2 importable first (transfer.compat), whatever its version.
"""

from transfer.compat import prepare_detectron2

prepare_detectron2()
