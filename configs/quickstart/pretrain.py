"""AutoMix on the semi-synthetic demo scenes: 100 drawings on photographs, ResNet-18 with the ImageNet stem.

What it shows: the whole method at a scale that two CPU cores finish in minutes. No figure of it is a paper result.
Cost and result: see docs/quickstart.md, which holds the tables of one run.

The run has 310 steps where the paper's have 40,000 and more, so four settings differ from the paper's:
- AdamW instead of SGD, for both methods: vanilla reaches 26 %, and 19 % by optim.name=momentum optim.lr=0.05
  optim.weight_decay=5e-4.
- The momentum goes from 0.95 to 0.99, not from 0.999 to 1: its horizon 1 / (1 - m) has to be short against the run, or
  the teacher never arrives.
- The Mix Block has a learning rate of its own, as in the authors' code, and a higher one: in trials, at the
  student's rate its attention stayed flat (a standard deviation of 0.06 inside a mask, 0.2 here), and at 0.06 its
  sigmoid saturated.
- gamma starts at 3, not at 0.1: the mask's mean has to be told sooner to follow lambda. It follows in direction, but
  310 steps do not bring it within the margin of 0.1.

    tools/pretrain.sh configs/quickstart/pretrain.py --method automix vanilla --resume auto
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
method = dict(name="automix", momentum=0.95, momentum_end=0.99, gamma=3.0, mix_block_lr=0.02)
optim = dict(name="adamw", lr=3e-3, weight_decay=0.05, warmup_epochs=0.5, epochs=5)
run = dict(seed=0, log_every=5, channels_last=True)
