"""A study on two CPU cores: scikit-learn's handwritten digits, 10 labelled ones of each, ResNet-20, 16 pixels.

What it shows: what each mixing method is worth on a few real images. 1,000 steps of 50 images are 500 passes over 100
images; vanilla's accuracy has stopped to move after a third of them, its training loss ends at 0.002, its top-1
accuracy on the 1,697 other digits at about 90 %. How the size was found, every figure and the seeds: docs/study.md.
No figure of it is a paper result.
Cost: about one minute on one core of an AMD EPYC for a vanilla training, two and a half for AutoMix.

Departs from the paper's settings where configs/study/scenes.py does, for the same reasons; here the Mix Block bears a
rate of 0.1 with a gamma of 1. Digits are not flipped.

    tools/pretrain.sh configs/study/digits.py --method automix --work-dir work_dirs/study/trial
"""

_base_ = "scenes.py"

name = "study/digits"
data = dict(
    root="work_dirs/study/data/digits",
    prepare="python tools/prepare_digits.py --out work_dirs/study/data/digits",
    transform=dict(_delete_=True, size=16, train_crop="padded", padding=2, flip=0.0, test_crop_ratio=1.0),
)
backbone = dict(name="cifar_resnet20")
methods = dict(automix=dict(gamma=1.0, mix_block_lr=0.1), random_grids=dict(grid=8))
optim = dict(warmup_epochs=10, epochs=500)
run = dict(evaluate_every=10, inspect_every=100, checkpoint_every=50)
