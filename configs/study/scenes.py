"""A study on two CPU cores: 40 drawings on cluttered photographs, 10 training images each, a slim ResNet-18, 56 pixels.

What it shows: what each mixing method is worth where training is long against the data, so that vanilla training has
converged and overfits: 1,600 steps of 50 images are 200 passes over 400 images. How the size was found, every figure
and the seeds: docs/study.md. No figure of it is a paper result.
Cost: about 3 minutes on one core of an AMD EPYC for a vanilla training, 8 for AutoMix.

The paper's settings, but for these, which are the same for every method that has them:
- The run has 1,600 steps where the paper's have 40,000 and more, so the momentum goes from 0.98 to 0.998: its horizon
  1 / (1 - m) has to be short against the run.
- The Mix Block reads stage 2: its 7x7 cells (8x8 of the digits) come nearest to the 8x8 of the paper's small images,
  where stage 3 has 4x4. gamma starts at 3, not at 0.1, and the Mix Block learns at 0.03, below the student's rate: else
  its sigmoid saturates within the first hundreds of steps. All of a mix is then one image, whatever lambda is, and the
  gradient through the mask is gone (docs/study.md has what was tried).
- Hand-made methods have alpha 1, as the paper's long trainings on small images have it for MixUp and ResizeMix.

    tools/pretrain.sh configs/study/scenes.py --method automix --work-dir work_dirs/study/trial
"""

name = "study/scenes"
data = dict(
    root="work_dirs/study/data/scenes/classification",
    prepare="python tools/study.py --prepare",
    batch_size=50,
    workers=0,
    transform=dict(size=56, scale=(0.5, 1.0), test_crop_ratio=0.89),
)
backbone = dict(name="slim_resnet18")
method = dict(name="vanilla")
methods = dict(
    mixup=dict(alpha=1.0),
    cutmix=dict(alpha=1.0),
    resizemix=dict(alpha=1.0),
    puzzlemix=dict(alpha=1.0),
    automix=dict(feature_layer=2, gamma=3.0, mix_block_lr=0.03, momentum=0.98, momentum_end=0.998),
    random_grids=dict(alpha=2.0, grid=7),
)
optim = dict(name="momentum", lr=0.05, weight_decay=5e-4, warmup_epochs=5, epochs=200)
run = dict(seed=0, log_every=50, channels_last=True, evaluate_every=5, inspect_every=40, checkpoint_every=20)
