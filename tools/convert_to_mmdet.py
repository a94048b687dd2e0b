"""Convert a pretrained ResNet, ResNeXt or Swin-T to MMDetection's exact names, and prove that it computes the same.

Examples:
  python tools/convert_to_mmdet.py work_dirs/run/automix/export/teacher.safetensors automix.pth
  python tools/convert_to_mmdet.py moco_v2_800ep_pretrain.pth.tar moco.pth --arch resnet50
  python tools/convert_to_mmdet.py teacher.safetensors automix_fpn.pth --head fpn
OUT.py beside OUT.pth is a config for MMDetection's own tools/train.py.
Status 2, and nothing written, if a tensor is left over or missing, or if any stage differs in the last bit; of a Swin
transformer, which MMDetection sums in another order, by more than 1e-10 in float64.
"""

from pretrain.console import run_tool
from transfer.command import convert_command

if __name__ == "__main__":
    run_tool(lambda: convert_command("mmdet", __doc__ or ""))
