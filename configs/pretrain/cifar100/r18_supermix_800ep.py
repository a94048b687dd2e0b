"""SuperMix, ResNet-18, CIFAR-100, 800 epochs.

Expected: the paper has no figure for this cell (vanilla: 78.04 in Tables 1 and 14). Not run by this project so far.
The set is made first, by a network that was trained on the same images; with it an epoch is about twice as long, so
there are half as many. Cost: 400,000 steps of 100 images at about the cost of a vanilla step.

    python tools/supermix_generate.py --data data/cifar100 --out work_dirs/supermix/cifar100_r18 \\
        --teacher work_dirs/cifar100/r18_800ep/vanilla/export/model.safetensors
    tools/pretrain.sh configs/pretrain/cifar100/r18_supermix_800ep.py --resume auto
"""

_base_ = "base_800ep.py"

name = "cifar100/r18_supermix_800ep"
backbone = dict(name="cifar_resnet18")
method = dict(name="vanilla")
data = dict(soft_labelled="work_dirs/supermix/cifar100_r18")
optim = dict(epochs=400)
