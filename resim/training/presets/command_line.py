"""Named training runs. Each stage is written as what it changes in the one before, so the curriculum reads as a diff.

stage1 .. stage3 have the paper's numbers (arXiv 2506.09981, Sec. 3 and appendix); tiny_stage1 .. 3 have the same shape
at 64 x 112 for a CPU; debug takes seconds.
"""

from collections.abc import Callable, Sequence

import tyro

from resim.training.config import TrainConfig
from resim.training.presets.ablations import tiny_ablation, tiny_experts, tiny_video
from resim.training.presets.paper import stage1, stage2, stage3
from resim.training.presets.tiny import (
    debug,
    tiny_deep,
    tiny_finetune,
    tiny_long,
    tiny_simple,
    tiny_stage1,
    tiny_stage2,
    tiny_stage3,
)

PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset
    for preset in (
        stage1,
        stage2,
        stage3,
        tiny_stage1,
        tiny_stage2,
        tiny_stage3,
        tiny_simple,
        tiny_deep,
        tiny_long,
        tiny_finetune,
        tiny_video,
        tiny_ablation,
        tiny_experts,
        debug,
    )
}


def parse_command_line(args: Sequence[str] | None = None) -> TrainConfig:
    """``PRESET --learning_rate 1e-5 ...`` -> config; every field of the config is a flag without prefix.

    An unknown flag or preset ends the program with exit code 2 and a suggestion.
    """
    choices = {name: (preset.__doc__ or "", preset()) for name, preset in PRESETS.items()}
    return tyro.extras.overridable_config_cli(
        choices,
        args=args,
        use_underscores=True,
        description="Train ReSim. Flags such as --output_dir or --learning_rate override the values of a preset.",
        config=(tyro.conf.OmitArgPrefixes,),
    )
