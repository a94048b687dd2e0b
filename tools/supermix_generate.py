"""Write a set of SuperMix images with a frozen teacher's soft labels; an interrupted set goes on where it was.

Examples:
    python tools/supermix_generate.py --data data/cifar100 --teacher RUN/export/model.safetensors --out data/mixed
    python tools/supermix_generate.py --data data/imagenet --teacher T --out O --resize 260 --grid 16 --sigma 2
"""

from __future__ import annotations

import argparse

from pretrain.console import UserError, run_tool


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/<class>/, as for pretraining")
    parser.add_argument("--teacher", required=True, help="exported backbone (.safetensors, its card beside it)")
    parser.add_argument("--out", required=True, help="folder for the set; data.soft_labelled of a config names it")
    parser.add_argument("--mixes", type=int, help="how many to try (default: as many as there are images)")
    parser.add_argument("--batch-size", type=int, default=100, help="images mixed with each other (%(default)s)")
    parser.add_argument("--resize", type=int, help="short side before the random crop (default: the teacher's side)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (%(default)s)")
    parser.add_argument("--sources", type=int, default=2, help="images in each mix (%(default)s)")
    parser.add_argument("--alpha", type=float, default=3.0, help="of the Dirichlet distribution (%(default)s)")
    parser.add_argument("--grid", type=int, default=8, help="side of the masks; 16 at 224 pixels (%(default)s)")
    parser.add_argument("--sigma", type=float, default=1.0, help="smoothing, cells; 2 at 224 pixels (%(default)s)")
    parser.add_argument("--sparsity", type=float, default=25.0, help="weight of mean |m (m - 1)| (%(default)s)")
    parser.add_argument("--max-steps", type=int, default=50, help="steps before a mix is dropped (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Write the set and print how many mixes were kept and dropped."""
    args = parse()

    # Late: --help and wrong arguments answer at once.
    from pretrain.mixups.supermix import SuperMix
    from pretrain.training.supermix_set import generate

    names = ("sources", "alpha", "grid", "sigma", "sparsity", "max_steps")
    try:
        policy = SuperMix(**{name: getattr(args, name) for name in names})
    except ValueError as error:
        raise UserError(str(error)) from error
    done = generate(args.data, args.teacher, args.out, args.mixes, policy, args.batch_size, args.resize, args.seed)
    print(f"mixed images {'already complete' if done.already_complete else 'written'}: {done.root}")
    print(f"  {done.kept} kept, {done.dropped} dropped of {done.kept + done.dropped}")


if __name__ == "__main__":
    run_tool(main)
