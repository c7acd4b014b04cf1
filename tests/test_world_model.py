"""The full-size model is CogVideoX-2B plus the listed parts, and starts out as CogVideoX bit for bit."""

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.loaders import CogVideoXLoraLoaderMixin
from safetensors.torch import load_file, save_file
from tiny_models import TEXT_WIDTH, TRANSFORMER, randomise, tiny_world_model

from resim.world_model import lora
from resim.world_model.model import (
    WorldModel,
    deepen,
    from_cogvideox,
    from_stock_transformer,
    full_size_encoder,
)
from resim.world_model.trajectory_encoder import TrajectoryEncoder, latent_poses
from resim.world_model.transformer import ReSimTransformer3DModel, position_table

COGVIDEOX_2B = 1_693_783_872
RESOLUTIONS = {"512x896": (64, 112), "256x448": (32, 56)}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_full_size_parameters():
    with torch.device("meta"):
        stock, resim, papers = CogVideoXTransformer3DModel(), ReSimTransformer3DModel(), TrajectoryEncoder()
        encoder = full_size_encoder(resim)
    assert count(stock) == COGVIDEOX_2B
    # The new part of the transformer: one linear from the 512-wide time embedding to the 1920-wide tokens.
    assert count(resim) - COGVIDEOX_2B == 512 * 1920 + 1920
    width, inner, mlp = 1024, 8 * 64, 2048
    layer = 2 * 2 * width + (width * 3 * inner + 3 * inner) + (inner * width + width) + 2 * width * mlp + mlp + width
    embed = (3 * width + width) + 2 * width + width  # linear, LayerNorm, CLS
    assert count(papers) == embed + 2 * layer + 2 * width + width * 4096 + 4096
    # 8 sines and cosines of each of x, y and heading -> width -> the transformer's width.
    assert count(encoder) - count(papers) == (2 * 8 * 3 * width + width) + (width * 1920 + 1920)


def stock_transformer(height: int, width: int, max_text_seq_length: int = 32) -> CogVideoXTransformer3DModel:
    config = TRANSFORMER | {"max_text_seq_length": max_text_seq_length}
    stock = CogVideoXTransformer3DModel(**config, sample_height=height, sample_width=width)
    randomise(stock)
    # CogVideoX has one interpolation scale; ReSim's positions follow height and width apart. All else is stock.
    table = position_table(13, height // 2, width // 2, 32, torch.device("cpu"))
    stock.patch_embed.pos_embedding = torch.cat([table.new_zeros(max_text_seq_length, 32), table])[None]
    return stock


@pytest.mark.parametrize("size", RESOLUTIONS.values(), ids=RESOLUTIONS.keys())
@torch.no_grad()
def test_fresh_resim_equals_cogvideox_bit_for_bit(size):
    stock = stock_transformer(*size)
    resim = from_stock_transformer(stock)
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 13, 4, *size, generator=generator)
    text = torch.randn(1, 32, TEXT_WIDTH, generator=generator)
    t = torch.tensor([300])
    expected = stock(latents, text, t, return_dict=False)[0]
    assert expected.std() > 0.01
    assert torch.equal(resim(latents, text, t, context_level=torch.tensor([100]), num_context=0), expected)
    # Context in place changes the modulation only: at the same level as the timestep nothing differs.
    assert torch.equal(resim(latents, text, t, context_level=t, num_context=3), expected)
    assert not torch.equal(resim(latents, text, t, context_level=torch.tensor([0]), num_context=3), expected)


@torch.no_grad()
def test_fresh_trajectory_tokens_are_empty_text_tokens_and_fresh_poses_nothing():
    stock = stock_transformer(8, 12, max_text_seq_length=32 + 9)
    model = WorldModel(from_stock_transformer(stock), TrajectoryEncoder(text_embed_dim=TEXT_WIDTH, video_width=32))
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 13, 4, 8, 12, generator=generator)
    text = torch.randn(1, 32, TEXT_WIDTH, generator=generator)
    t, level = torch.tensor([300]), torch.tensor([300])
    waypoints = torch.randn(1, 8, 3, generator=generator)
    out = model(latents[:, :3], latents[:, 3:], text, waypoints, torch.tensor([True]), t, level)
    padded = torch.cat([text, torch.zeros(1, 9, TEXT_WIDTH)], dim=1)
    assert torch.equal(out, stock(latents, padded, t, return_dict=False)[0][:, 3:])


def test_positions_are_those_of_diffusers_at_its_own_resolution():
    stock = CogVideoXTransformer3DModel(**TRANSFORMER, sample_height=60, sample_width=90)
    expected = stock.patch_embed._get_positional_embeddings(60, 90, 49)[0, 32:]
    assert torch.equal(position_table(13, 30, 45, 32, torch.device("cpu")), expected)


@torch.no_grad()
def test_absent_waypoints_contribute_nothing_whatever_they_hold():
    encoder = tiny_world_model().trajectory_encoder
    waypoints = torch.full((2, 8, 3), float("nan"))
    waypoints[1] = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    tokens, poses = encoder(waypoints, torch.tensor([False, True]))
    assert tokens.shape == (2, 9, TEXT_WIDTH) and poses.shape == (2, 10, 32)
    for conditions in (tokens, poses):
        assert torch.equal(conditions[0], torch.zeros_like(conditions[0]))
        assert conditions[1].abs().sum() > 0


def test_latents_are_told_the_pose_in_the_middle_of_their_four_frames():
    speed_mps, turn_radps = 7.0, 0.1
    time_s = 0.5 * torch.arange(1, 9)
    path = torch.stack([speed_mps * time_s, torch.zeros(8), turn_radps * time_s], dim=-1)
    middle_s = torch.tensor([np.mean([0.1 * (4 * latent + frame) for frame in (1, 2, 3, 4)]) for latent in range(10)])
    with torch.autocast("cpu", torch.bfloat16):  # as in training, where metres must not be rounded to 8 bits
        poses = latent_poses(path[None])[0]
    assert torch.allclose(poses[:, 0], speed_mps * middle_s.float(), atol=1e-5)
    assert torch.allclose(poses[:, 2], turn_radps * middle_s.float(), atol=1e-6)


@pytest.mark.parametrize("num_context", [0, 3])
@torch.no_grad()
def test_a_pose_is_added_to_all_tokens_of_its_latent(num_context):
    transformer = tiny_world_model().transformer
    generator = torch.Generator().manual_seed(1)
    latents, poses = torch.randn(1, 13, 4, 8, 12, generator=generator), torch.randn(1, 10, 32, generator=generator)

    def first_tokens(pose_embeds: torch.Tensor | None) -> torch.Tensor:
        seen = []
        hook = transformer.transformer_blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
        transformer(
            latents, torch.zeros(1, 32, TEXT_WIDTH), torch.tensor([500]), torch.tensor([0]), num_context, pose_embeds
        )
        hook.remove()
        context, future, *_ = seen[0]
        return torch.cat([context, future], dim=1).unflatten(1, (13, 24))

    added = first_tokens(poses) - first_tokens(None)
    assert torch.equal(added[:, :3], torch.zeros(1, 3, 24, 32))  # history, whether it is given or to be predicted
    assert torch.allclose(added[:, 3:], poses[:, :, None].expand(-1, -1, 24, -1), atol=1e-5)


def test_from_cogvideox_reads_the_folder_and_refuses_others(tmp_path):
    stock = stock_transformer(8, 12)
    stock.save_pretrained(tmp_path / "good" / "transformer")
    model = from_cogvideox(tmp_path / "good")
    assert torch.equal(model.transformer.proj_out.weight, stock.proj_out.weight)
    assert model.transformer.context_level_proj.weight.abs().sum() == 0
    assert all(p.requires_grad and not p.is_meta for p in model.parameters())
    with pytest.raises(FileNotFoundError, match="CogVideoX-2b"):
        from_cogvideox(tmp_path / "missing")
    rotary = CogVideoXTransformer3DModel(**TRANSFORMER, use_rotary_positional_embeddings=True)
    rotary.save_pretrained(tmp_path / "rotary" / "transformer")
    with pytest.raises(ValueError, match="use_rotary_positional_embeddings must be False"):
        from_cogvideox(tmp_path / "rotary")


@torch.no_grad()
def test_gradient_checkpointing_and_merging_leave_the_output():
    model = tiny_world_model()
    generator = torch.Generator().manual_seed(1)
    context, noisy = torch.randn(1, 13, 4, 8, 12, generator=generator).split([3, 10], dim=1)
    text = torch.randn(1, 32, TEXT_WIDTH, generator=generator)
    inputs = (context, noisy, text, torch.zeros(1, 8, 3), torch.tensor([True]), torch.tensor([500]), torch.tensor([0]))
    plain = model(*inputs)
    lora.add_lora(model.transformer, rank=4, alpha=4.0)
    assert torch.equal(model(*inputs), plain)  # adapters start as identity
    randomise_adapters(model)
    adapted = model(*inputs)
    assert not torch.allclose(adapted, plain, atol=1e-3)
    lora.merge_lora(model.transformer)
    assert not lora.has_lora(model.transformer)
    assert torch.allclose(model(*inputs), adapted, atol=1e-5)
    with torch.enable_grad():
        model.transformer.requires_grad_(True)
        model.transformer.enable_gradient_checkpointing()
        assert torch.allclose(model(*inputs), adapted, atol=1e-5)


def randomise_adapters(model: WorldModel) -> None:
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def adapted_transformer(*, rank: int, alpha: float) -> ReSimTransformer3DModel:
    model = tiny_world_model()
    lora.add_lora(model.transformer, rank=rank, alpha=alpha)
    with torch.no_grad():
        randomise_adapters(model)
    return model.transformer


def test_adapters_round_trip(tmp_path):
    transformer, again = adapted_transformer(rank=4, alpha=1.0), tiny_world_model().transformer
    lora.save_lora(transformer, tmp_path)
    lora.load_lora(again, tmp_path)
    for (name, a), (_, b) in zip(transformer.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b) and a.requires_grad == b.requires_grad, name


@torch.no_grad()
@pytest.mark.parametrize("whose", ["transformer", "pipeline"])
def test_diffusers_own_calls_read_an_adapter_at_its_strength(tmp_path, whose):
    """Rank and alpha differ, as in the paper's stage 2, so that a reader that misses alpha is seen."""
    adapted, again = adapted_transformer(rank=8, alpha=24.0), tiny_world_model().transformer
    generator = torch.Generator().manual_seed(1)
    inputs = (torch.randn(1, 13, 4, 8, 12, generator=generator), torch.randn(1, 32, TEXT_WIDTH, generator=generator))
    rest = dict(timestep=torch.tensor([500]), context_level=torch.tensor([0]), num_context=3)
    plain = again(*inputs, **rest)
    lora.save_lora(adapted, tmp_path)
    if whose == "transformer":
        again.load_lora_adapter(tmp_path, use_safetensors=True)
    else:  # what CogVideoXPipeline.load_lora_weights does
        weights, metadata = CogVideoXLoraLoaderMixin.lora_state_dict(str(tmp_path), return_lora_metadata=True)
        CogVideoXLoraLoaderMixin.load_lora_into_transformer(weights, again, metadata=metadata)
    assert torch.equal(again(*inputs, **rest), adapted(*inputs, **rest))
    assert not torch.allclose(again(*inputs, **rest), plain, atol=1e-3)


def test_what_is_no_adapter_of_this_model_is_refused(tmp_path):
    lora.save_lora(adapted_transformer(rank=4, alpha=1.0), tmp_path / "new")
    file = tmp_path / "new" / "pytorch_lora_weights.safetensors"
    with pytest.raises(FileNotFoundError, match="no LoRA adapter"):
        lora.load_lora(tiny_world_model().transformer, tmp_path / "nowhere")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "adapter_model.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="old/adapter_model.safetensors is from before .* merge_lora"):
        lora.load_lora(tiny_world_model().transformer, tmp_path / "old")

    deeper = deepen(tiny_world_model().transformer, 3)
    wider = ReSimTransformer3DModel(**(TRANSFORMER | {"num_attention_heads": 4}), sample_height=8, sample_width=12)
    for other, what in ((deeper, "missing .*blocks.2"), (wider, "size mismatch")):
        with pytest.raises(ValueError, match=f"safetensors does not fit this transformer: .*{what}") as error:
            lora.load_lora(other, tmp_path / "new")
        assert "\n" not in str(error.value)

    save_file(load_file(file), file)  # as from a program that writes no metadata
    with pytest.raises(ValueError, match="has no lora_adapter_metadata, so its alpha is unknown"):
        lora.load_lora(tiny_world_model().transformer, tmp_path / "new")


@torch.no_grad()
def test_a_deeper_transformer_predicts_the_same_and_can_learn_more():
    transformer = tiny_world_model().transformer
    generator = torch.Generator().manual_seed(1)
    inputs = (torch.randn(1, 13, 4, 8, 12, generator=generator), torch.randn(1, 32, TEXT_WIDTH, generator=generator))
    rest = dict(timestep=torch.tensor([500]), context_level=torch.tensor([0]), num_context=3)
    deeper = deepen(transformer, 3)
    assert deeper.config.num_layers == 3 and transformer.config.num_layers == 2
    assert torch.equal(deeper(*inputs, **rest), transformer(*inputs, **rest))
    with torch.enable_grad():
        deeper(*inputs, **rest).square().sum().backward()
    assert all(block.ff.net[2].weight.grad.abs().sum() > 0 for block in deeper.transformer_blocks)
    with pytest.raises(ValueError, match="num_layers is 2: give more than the 2"):
        deepen(transformer, 2)
