"""What an evaluation prints and writes, beside the paper's Table 8."""

from wsol.report.output import RESULT, print_result, write_images, write_result

__all__ = ["RESULT", "print_result", "write_images", "write_result"]
