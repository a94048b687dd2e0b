"""Bring the backbone of an MMDetection detector back to a classification network, and prove that it computes the same.

Examples:
  python tools/convert_from_mmdet.py work_dirs/mmdet/CONFIG/automix-seed0/iter_24000.pth r50.safetensors
  python tools/convert_from_mmdet.py iter_24000.pth r50.safetensors --classifier export/teacher.safetensors
  python tools/convert_from_mmdet.py iter_24000.pth r50.pth
The first is an exported backbone of this toolkit, with its card; the last has torchvision's names, for anybody's code.
Status 2, and nothing written, if a tensor is left over or missing, or if any stage differs in the last bit.
"""

from pretrain.console import run_tool
from transfer.command import convert_back_command

if __name__ == "__main__":
    run_tool(lambda: convert_back_command(__doc__ or ""))
