"""What the ablations of Tables 9, 10 and 11 and of Figures 9 and 10 share here: Tiny-ImageNet, ResNet-18, 400 epochs.

The tables have other columns too. Their cells are the same method on another base, by options:

    --cfg-options backbone.name=cifar_resnext50_32x4d name=ablations/rx50
    --cfg-options data.root=data/cifar100 data.transform.size=32 data.transform.train_crop=padded optim.lr=0.1 \\
        optim.epochs=800 name=ablations/cifar100
"""

_base_ = "../tiny/base_400ep.py"

backbone = dict(name="cifar_resnet18")
