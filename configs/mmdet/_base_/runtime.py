"""What every fine-tuning shares: hooks, workers, and the names that transfer.mmdet adds to MMDetection."""

default_scope = "mmdet"
custom_imports = dict(
    imports=["transfer.mmdet.data", "transfer.mmdet.heads", "transfer.mmdet.metrics"], allow_failed_imports=False
)

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2000, max_keep_ckpts=2),
    sampler_seed=None,  # ResumableLoop orders the pictures
)
env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
val_cfg = dict(type="ValLoop")
