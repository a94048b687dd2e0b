"""Convert a pretrained ResNet to MMDetection's exact parameter names, and prove that it computes the same.

Examples:
  python tools/convert_to_mmdet.py work_dirs/run/automix/export/teacher.safetensors automix.pth
  python tools/convert_to_mmdet.py moco_v2_800ep_pretrain.pth.tar moco.pth --arch resnet50
  python tools/convert_to_mmdet.py teacher.safetensors automix_fpn.pth --head fpn
Status 2, and nothing written, if a tensor is left over or missing, or if any stage differs in the last bit.
"""

from pretrain.console import run_tool
from transfer.command import convert_command

if __name__ == "__main__":
    run_tool(lambda: convert_command("mmdet", __doc__ or ""))
