"""SuperMix, ResNet-18, CUB-200-2011, 200 epochs from ImageNet weights.

Expected: the paper has no figure for this cell (vanilla: 77.68 in Table 5). Not run by this project so far. The set
is made first, by a network that was trained on the same images; with it an epoch is about twice as long, so there are
half as many. Cost: 74,800 steps of 16 images at about the cost of a vanilla step.

    python tools/supermix_generate.py --data data/cub200 --out work_dirs/supermix/cub200_r18 --resize 260 \\
        --grid 16 --sigma 2 --teacher work_dirs/cub200/r18_200ep/vanilla/export/model.safetensors
    tools/pretrain.sh configs/pretrain/cub200/r18_supermix_200ep.py --resume auto
"""

_base_ = "base_200ep.py"

name = "cub200/r18_supermix_200ep"
backbone = dict(name="resnet18", pretrained="resnet18.tv_in1k")
method = dict(name="vanilla")
data = dict(soft_labelled="work_dirs/supermix/cub200_r18")
optim = dict(epochs=100)
