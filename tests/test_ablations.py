"""Ablations: what each variant changes, the paired bootstrap, expert stores, restart, and the page's numbers."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ablation import measures, page, runs, statistics
from ablation.variants import BASE, VARIANTS, Schedule, pretraining, run_folder, trainings, without_poses
from tiny_models import tiny_pipeline
from tiny_run import HEIGHT_PX, LATENT_SHAPE, WIDTH_PX

from data_prep.select_drivers import SelectArgs, select_drivers
from resim.data.latents import LatentCache, write_latents
from resim.data.store import ClipStore, StoreWriter
from resim.runtime.config import flatten
from resim.training.presets.ablations import tiny_ablation, tiny_experts
from resim.training.presets.command_line import parse_command_line
from resim.world_model.pipeline import ReSimPipeline

SCHEDULE = Schedule(lora_steps=30, joint_steps=130)
BY_NAME = {variant.name: variant for variant in VARIANTS}


def configs(name: str, seed: int = 0) -> list[dict[str, object]]:
    return [flatten(parse_command_line(t.flags)) for t in trainings(SCHEDULE, BY_NAME[name], seed)]


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("dynamics_0", {"diffusion.dynamics_intervals": 0}),
        ("dynamics_1", {"diffusion.dynamics_intervals": 1}),
        ("high_noise_1_2", {"diffusion.high_noise_probability": 0.5}),
        ("high_noise_3_4", {"diffusion.high_noise_probability": 0.75}),
        ("clean_context", {"diffusion.max_context_timestep": 0}),
    ],
)
def test_a_variant_differs_from_the_base_in_what_its_name_says(name, changed):
    for own, base in zip(configs(name), configs("base"), strict=True):
        different = {key: own[key] for key in own if own[key] != base[key] and key not in {"output_dir", "init_from"}}
        assert different == changed


def test_the_base_has_the_papers_choices():
    for config in configs("base"):
        assert config["diffusion.dynamics_intervals"] == 4
        assert config["diffusion.high_noise_probability"] == pytest.approx(2 / 3)
        assert config["diffusion.max_context_timestep"] > 0


def test_without_non_experts_only_the_simulated_store_changes():
    for own, base in zip(configs("experts_only"), configs("base"), strict=True):
        different = {key for key in own if own[key] != base[key]} - {"output_dir", "init_from"}
        assert different == {"preset", "data.entries"}
    (own,), (base,) = tiny_experts().data.entries, tiny_ablation().data.entries
    assert (str(base.store), str(own.store)) == ("simple_more", "simple_more_experts")
    assert replace(own, store=base.store) == base


def test_every_variant_takes_as_many_steps_from_the_common_start():
    for variant in VARIANTS:
        stages = configs(variant.name, seed=1)
        assert sum(stage["max_train_steps"] for stage in stages) == 160
        start = pretraining(SCHEDULE, 1).folder if variant.poses else without_poses(SCHEDULE, 1)
        assert stages[0]["init_from"] == str(start)
        assert [stage["trains"] for stage in stages] == ["lora", "everything"] if variant.lora_first else ["everything"]
        assert {stage["seed"] for stage in stages} == {1}
    lora, everything = trainings(SCHEDULE, BASE, 0)
    assert everything.flags[everything.flags.index("--init_from") + 1] == str(lora.folder)
    assert [variant.name for variant in VARIANTS if not variant.lora_first] == ["full_from_start"]


def test_tokens_only_is_the_common_start_without_its_poses(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "start")
    assert [variant.name for variant in VARIANTS if not variant.poses] == ["tokens_only"]
    for _ in range(2):  # the second call finds the work done
        runs.remove_poses(tmp_path / "start", tmp_path / "without")
    model = ReSimPipeline.from_pretrained(tmp_path / "without").world_model
    waypoints, given = torch.ones(1, 8, 3), torch.tensor([True])
    tokens, poses = model.trajectory_encoder(waypoints, given)
    assert poses is None
    expected, expected_poses = pipeline.trajectory_encoder(waypoints, given)
    assert torch.equal(tokens, expected) and expected_poses.abs().sum() > 0
    for name, value in pipeline.transformer.state_dict().items():
        assert torch.equal(model.transformer.state_dict()[name], value), name


def test_the_common_start_sees_no_action():
    config = parse_command_line(pretraining(SCHEDULE, 0).flags)
    entries = (*config.data.entries, *config.data.validation_entries)
    assert [(str(entry.store), entry.trajectory_dropout) for entry in entries] == [
        ("simple_more_experts", 1.0),
        ("simple_held_out", 1.0),
    ]
    assert config.trains == "transformer"


def test_paired_difference_has_the_closed_form_interval():
    rng = np.random.default_rng(0)
    scenes = rng.normal(0.0, 10.0, (1, 400))  # what a scene is like, the same in both
    effect = rng.normal(0.5, 1.0, (1, 400))
    found = statistics.paired_difference(scenes + effect, scenes)
    half = 1.96 * effect.std() / np.sqrt(400)
    assert found.mean == pytest.approx(effect.mean())
    assert (found.low, found.high) == pytest.approx((effect.mean() - half, effect.mean() + half), abs=0.01)
    assert found.is_told_apart


def test_seeds_that_disagree_make_the_interval_as_wide_as_they_are():
    base = np.zeros((2, 24))
    found = statistics.paired_difference(np.stack([base[0] + 1.0, base[1] - 0.5]), base)
    assert (found.low, found.mean, found.high) == pytest.approx((-0.5, 0.25, 1.0))
    higher, lower = (statistics._metric("", is_better, lambda run: []) for is_better in (True, False))
    assert found.verdict(higher) == "not told apart"
    worse = statistics.paired_difference(base - 1.0, base)
    assert (worse.verdict(higher), worse.verdict(lower)) == ("worse", "better")
    with pytest.raises(ValueError, match=r"\(2, 23\) cannot be paired"):
        statistics.paired_difference(base[:, 1:], base)


def store_of_drivers(folder: Path, drivers: list[str]) -> ClipStore:
    rng = np.random.default_rng(0)
    with StoreWriter(folder, source="simulation", height_px=HEIGHT_PX, width_px=WIDTH_PX, inputs=()) as writer:
        for n, driver in enumerate(drivers):
            picture = rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
            path = np.stack([0.1 * (n + 1) * np.arange(1, 9), np.zeros(8), np.zeros(8)], axis=1)
            writer.add([picture] * 49, clip_id=f"c{n}", scene_id=f"s{n}", driver=driver, waypoints=path)
    store = ClipStore(folder)
    values = iter(range(len(drivers)))
    write_latents(
        store,
        lambda _: (torch.full((1, *LATENT_SHAPE), float(next(values))), torch.zeros(1, *LATENT_SHAPE)),
        fingerprint="vae", height_px=HEIGHT_PX, width_px=WIDTH_PX, inputs=(),
    )  # fmt: skip
    return store


def test_selecting_experts_keeps_them_alone_with_their_own_latents(tmp_path):
    drivers = ["expert", "random", "expert", "rear_end"] * 9  # more than one shard
    source = store_of_drivers(tmp_path / "simulation", drivers)
    select_drivers(SelectArgs(store=source.path, drivers=("expert",), output_dir=tmp_path / "experts"))
    experts = ClipStore(tmp_path / "experts")
    experts.verify()
    assert [clip.clip_id for clip in experts.clips] == [f"c{n}" for n in range(0, 36, 2)]
    assert {clip.driver for clip in experts.clips} == {"expert"}
    cache = LatentCache(experts, fingerprint="vae", height_px=HEIGHT_PX, width_px=WIDTH_PX)
    for index, clip in enumerate(experts.clips):
        number = int(clip.clip_id[1:])
        assert cache.read(index, seed=0).unique().tolist() == [number]
        np.testing.assert_array_equal(clip.waypoints, source.clips[number].waypoints)
    with pytest.raises(ValueError, match="no clip of swerve_left"):
        select_drivers(SelectArgs(store=source.path, drivers=("swerve_left",), output_dir=tmp_path / "none"))


def finish(training, **changes):
    """What the training loop leaves at its end."""
    training.folder.mkdir(parents=True)
    config = flatten(parse_command_line(training.flags)) | changes
    (training.folder / "train_config.json").write_text(json.dumps({"config": config, "git_commit": "abc"}))
    (training.folder / "model_index.json").write_text("{}")


def test_a_restart_trains_only_what_is_missing(tmp_path, monkeypatch):
    started = []

    def fake_run(command, **_):
        flags = command[2:]
        started.append((Path(flags[flags.index("--output_dir") + 1]).relative_to(tmp_path).as_posix(), flags[-1]))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(runs.subprocess, "run", fake_run)
    schedule = replace(SCHEDULE, output_dir=tmp_path)
    finish(pretraining(schedule, 0))
    lora, everything = trainings(schedule, BASE, 0)
    finish(lora)
    (everything.folder / "checkpoint-000100").mkdir(parents=True)
    full = BY_NAME["full_from_start"]
    runs.train_all(schedule, [(BASE, 0), (full, 0)], num_workers=1)
    assert started == [("seed0/base/everything", "latest"), ("seed0/full_from_start/everything", "--overwrite")]


def test_finished_runs_are_recognised_side_by_side(tmp_path):
    training = trainings(replace(SCHEDULE, output_dir=tmp_path), BASE, 0)[0]
    finish(training)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(runs.is_finished, [training] * 16)) == [True] * 16


def test_other_settings_are_an_error_and_a_failure_names_the_log(tmp_path, monkeypatch):
    training = trainings(replace(SCHEDULE, output_dir=tmp_path), BASE, 0)[0]
    finish(training, max_train_steps=31)
    with pytest.raises(
        ValueError, match="lora: max_train_steps was 31, now 30; set it back, or give another --output_dir"
    ):
        runs.is_finished(training)
    monkeypatch.setattr(runs.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 3))
    other = trainings(replace(SCHEDULE, output_dir=tmp_path), BASE, 1)[0]
    with pytest.raises(ChildProcessError, match=r"train_world_model.py ended with status 3: see .*seed1/base/lora.log"):
        runs.train(other)


def test_a_restart_measures_only_what_is_missing(tmp_path):
    schedule = replace(SCHEDULE, output_dir=tmp_path)
    reader = tmp_path / "reader"
    reader.mkdir()
    (reader / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    config = measures.MeasureConfig(inverse_dynamics=reader)
    all_runs = [(BASE, 0), (BASE, 1)]
    assert measures.unmeasured(schedule, config, all_runs) == all_runs
    run_folder(schedule, BASE, 0).mkdir(parents=True)
    measures.measures_file(schedule, all_runs[0]).write_text(json.dumps({"settings": config.measure_settings()}))
    assert measures.unmeasured(schedule, config, all_runs) == all_runs[1:]
    assert measures.unmeasured(schedule, replace(config, num_scenes=3), all_runs) == all_runs
    (reader / "diffusion_pytorch_model.safetensors").write_bytes(b"another reader")
    assert measures.unmeasured(schedule, config, all_runs) == all_runs


def test_nearest_future_in_pixels():
    truths = np.stack([np.full((49, 4, 4, 3), value, np.uint8) for value in (0, 100, 200)])
    assert measures.nearest_share(truths, truths) == 1.0
    assert measures.nearest_share(truths[[1, 0, 2]], truths) == pytest.approx(1 / 3)
    all_alike = np.full_like(truths, 110)
    assert measures.nearest_share(all_alike, truths) == pytest.approx(1 / 3)  # the one whose truth is 100


def test_use_of_the_path_by_hand():
    losses = np.array([[1.0, 1.5, 1.3], [0.6, 0.5, 0.8], [3.0, 1.0, 2.0]])  # the third future fits path 1 best
    found = measures.path_use(losses)
    assert found["right"] == pytest.approx(2 / 3)
    assert found["gain"] == pytest.approx(np.mean([0.4, 0.4, 0.0]))
    assert measures.path_use(np.tile([[1.0], [2.0], [3.0]], 3))["gain"] == 0.0


def made_up_results(shift_m: float) -> dict[str, object]:
    """Results in which every variant's paths are as the base's, but those of experts_only are further off."""

    def run(name: str, seed: int) -> dict[str, object]:
        extra = shift_m if name == "experts_only" else 0.0
        scenes = []
        for n in range(6):
            shown = {"right": 0.5, "nearest": 0.5, "sharpness": 0.4, "distance_m": [2.0 + n, 4.0 + extra, 6.0 + extra]}
            rounds = {
                "distance_m": [3.0] * 3, "sharpness": [0.5] * 3, "difference_grey_levels": [9.0] * 3,
            }  # fmt: skip
            drivers = ["expert", "random", "rear_end"]
            use = {"right": 0.5, "gain": 0.01}
            scenes.append(
                {
                    "path_use": use,
                    "scene": str(n),
                    "drivers": drivers,
                    "generated": shown,
                    "true": shown,
                    "rounds": rounds,
                }
            )
        curve = [{"step": step, "loss": 1.0 - step / 100} for step in (0, 10)]
        return {
            "scenes": scenes, "held_out_losses": [0.8, 0.9], "curve": curve, "training_curve": curve,
            "training_seconds": 150.0 + seed, "measuring_seconds": 70.0,
        }  # fmt: skip

    return {
        "command": "python benchmarks/ablations.py", "hardware": "a machine", "commits": ["abc"],
        "schedule": {"pretrain_steps": 1, "lora_steps": 30, "joint_steps": 130},
        "settings": vars(measures.MeasureConfig(num_scenes=6)),
        "runs": {variant.name: {str(seed): run(variant.name, seed) for seed in (0, 1)} for variant in VARIANTS},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("shift_m", "said"),
    [
        (1.5, "6.50 against 5.00 (+30 %, worse)"),
        (-1.0, "4.00 against 5.00 (-20 %, better)"),
        (0.0, "5.00 against 5.00 (+0 %, not told apart)"),
    ],
)
def test_what_the_page_says_follows_from_the_numbers(shift_m, said, tmp_path):
    results = made_up_results(shift_m)
    text = page.page(results, Path("ablations.png"))
    line = next(line for line in text.splitlines() if line.startswith("- **Is non-expert driving needed"))
    assert f"`experts_only`: non-expert paths, m {said};" in line
    assert "; expert paths, m 3.00 against 3.00 (+0 %, not told apart)" in line
    assert "| `base` | non-expert data" in text and "150, 151" in text
    assert len([line for line in text.splitlines() if line.startswith("- **")]) == len(page.QUESTIONS)
    page.curves(results).savefig(tmp_path / "curves.png", dpi=90)
    assert (tmp_path / "curves.png").stat().st_size < 150_000
