"""AutoMix on the semi-synthetic demo scenes: 100 drawings on photographs, ResNet-18 with the ImageNet stem.

What it shows: the whole method at a scale that two CPU cores finish in minutes. No figure of it is a paper result.
Cost and result: see docs/quickstart.md, which holds the tables of one run.
The momentum goes from 0.95 to 0.99, not from the paper's 0.999 to 1: its horizon 1 / (1 - m) has to be short against
the 225 steps of this run, or the teacher never arrives. For the same reason gamma starts at 1, not at 0.1: with so few
steps the Mix Block has to be told sooner that the mask's mean follows lambda.

    tools/pretrain.sh configs/quickstart/pretrain.py --compare vanilla --resume auto
"""

name = "quickstart/pretrain"
data = dict(
    root="work_dirs/quickstart/data/classification",
    prepare="python tools/prepare_demo.py --out work_dirs/quickstart/data",
    batch_size=32,
    workers=1,
    transform=dict(size=56, scale=(0.5, 1.0), test_crop_ratio=0.89),
)
backbone = dict(name="resnet18")
method = dict(name="automix", momentum=0.95, momentum_end=0.99, gamma=1.0)
optim = dict(name="momentum", lr=0.05, momentum=0.9, weight_decay=5e-4, warmup_epochs=0.5, epochs=3)
run = dict(seed=0, log_every=5, channels_last=True)
