"""Vehicle, traffic, generator and drivers: closed forms, determinism, and what a drive promises."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resim.data.checks import validate_waypoints
from resim.data.store import ClipStore
from resim.datatypes.boxes import box_corners, boxes_overlap
from resim.datatypes.clip import NUM_FRAMES
from resim.datatypes.scene import Intent, LightState, Look, Scenery, Track, TrackKind
from resim.datatypes.vehicle import CAR
from resim.motion.bicycle import limit_control, steer_for_curvature, step_bicycle
from resim.motion.idm import gap_to_stop, idm_accel
from resim.simulation.drivers import DRIVERS, LANE_ERROR_M, POLICIES, draw_plan
from resim.simulation.generator.generate import MAPS, generate_scene
from resim.simulation.infractions import off_road
from resim.simulation.paths import path_along, speed_profile
from resim.simulation.simulate import Simulation, drive, ego_route
from resim.simulation.traffic import Traffic

SEEDS = range(900, 920)
KINDS = tuple(MAPS)


@pytest.fixture(scope="module")
def scenes():
    return [generate_scene(seed, kind=KINDS[i % len(KINDS)]) for i, seed in enumerate(SEEDS)]


@pytest.fixture(scope="module")
def experts(scenes):
    return [drive(scene, "expert") for scene in scenes]


@pytest.mark.parametrize("kind", KINDS)
def test_the_simple_world_is_slow_and_bare(kind):
    scene = generate_scene(7, kind=kind, simple=True)
    scenery = scene.scenery
    assert scenery.look == Look.SLABS and scenery.buildings == scenery.trees == ()
    assert max(lane.speed_limit_mps for lane in scene.road.lanes) <= 8.0
    assert 1.0 <= scene.ego.speed_mps[0] <= 8.0
    done = drive(scene, "expert")
    assert done.scene.tracks[done.scene.ego_index].speed_mps.max() <= 8.5


@pytest.mark.parametrize(
    ("policy", "differs"),
    [("constant_velocity", "curvature_1pm"), ("lane_follower", "accel_mps2"), ("careful", "accel_mps2")],
)
def test_policies_replace_what_their_name_says(policy, differs):
    scene = generate_scene(2)
    plan = draw_plan(policy, scene.road, ego_route(scene), 10.0, np.random.default_rng(0))
    assert getattr(plan, differs) is not None


def test_only_one_policy_is_blind_to_lights_and_all_but_one_misjudge_their_lane():
    scene = generate_scene(2)
    road, route = scene.road, ego_route(scene)
    plans = {name: draw_plan(name, road, route, 10.0, np.random.default_rng(0)) for name in POLICIES}
    assert [name for name, plan in plans.items() if not plan.heeds_lights] == ["idm_lane_follower"]
    assert plans["constant_velocity"].left_m == 0.0
    assert all(plans[name].left_m != 0 for name in ("lane_follower", "idm_lane_follower", "careful", "noisy_expert"))
    shifts_m = [draw_plan("noisy_expert", road, route, 10.0, np.random.default_rng(i)).left_m for i in range(400)]
    assert np.std(shifts_m) == pytest.approx(LANE_ERROR_M, rel=0.15)


def test_bicycle_drives_the_closed_form_circle():
    steer_rad, speed_mps = 0.2, 6.0
    radius_m = CAR.wheelbase_m / np.tan(steer_rad)
    state = np.array([0.0, 0.0, 0.0, speed_mps, steer_rad])
    for _ in range(57):
        state = step_bicycle(state, 0.0, steer_rad, 0.1, CAR.wheelbase_m)
    angle_rad = speed_mps * 5.7 / radius_m
    expected = [radius_m * np.sin(angle_rad), radius_m * (1 - np.cos(angle_rad)), angle_rad]
    np.testing.assert_allclose(state[:3], expected, atol=1e-9)


def test_bicycle_brakes_to_standstill_over_the_stopping_distance():
    state = np.array([0.0, 0.0, 0.0, 7.3, 0.0])
    for _ in range(40):
        state = step_bicycle(state, -4.0, 0.0, 0.1, CAR.wheelbase_m)
    np.testing.assert_allclose(state[[0, 3]], [7.3**2 / 8, 0.0], atol=1e-9)


def test_control_limits():
    state = np.array([0.0, 0.0, 0.0, 5.0, 0.1])
    assert limit_control(state, 99.0, 9.0, 0.1, CAR) == pytest.approx((4.0, 0.1 + CAR.max_steer_rate_radps * 0.1))
    assert limit_control(state, -99.0, -9.0, 10.0, CAR) == pytest.approx((-8.0, -0.6))
    assert np.tan(steer_for_curvature(0.05, CAR.wheelbase_m)) / CAR.wheelbase_m == pytest.approx(0.05)


def test_idm_rests_at_its_equilibrium_gap():
    speed, wanted = np.array([10.0]), np.array([15.0])
    equilibrium_m = (2.0 + 1.6 * speed) / np.sqrt(1 - (speed / wanted) ** 4)  # Treiber 2000, equation 5
    np.testing.assert_allclose(idm_accel(speed, wanted, equilibrium_m, speed), 0.0, atol=1e-12)
    assert idm_accel(speed, wanted, equilibrium_m - 1, speed) < 0 < idm_accel(speed, wanted, equilibrium_m + 1, speed)
    np.testing.assert_allclose(idm_accel(wanted, wanted, np.array([np.inf]), speed), 0.0, atol=1e-12)


def car_on(scene, lane_ids, along_m, speed_mps, *, track_id=0):
    """A car of 4 m that drives through these lanes; known at step 0 alone."""
    pose, steps = path_along(scene.road, lane_ids).pose_at(along_m), scene.num_steps
    ahead = np.array([np.cos(pose[2]), np.sin(pose[2])])
    return Track(
        track_id=track_id, kind=TrackKind.VEHICLE, length_m=4.0, width_m=1.8, height_m=1.5,
        poses=np.tile(pose, (steps, 1)), velocity_mps=np.tile(speed_mps * ahead, (steps, 1)),
        valid=np.arange(steps) == 0, intent=Intent(along_m=np.full(steps, float(along_m)), lane_ids=lane_ids),
    )  # fmt: skip


def test_followers_settle_behind_a_stopped_car_without_touching():
    scene = generate_scene(1, kind="straight", num_steps=400)
    cars = (car_on(scene, (0,), 250, 0.0), car_on(scene, (0,), 200, 8.0, track_id=1))
    traffic = Traffic(replace(scene, tracks=(*cars, scene.ego), ego_index=2), mode="reactive", step=0)
    traffic.stop(0)
    far_away = np.array([-999.0, 0.0, 0.0, 0.0, 0.0])
    for _ in range(300):
        traffic.step(traffic.obstacles(far_away, 0, CAR, np.nan), np.zeros(0, np.int8))
    gap_m = traffic.along_m[0] - traffic.along_m[1] - 4.0
    assert 1.0 < gap_m < 4.5 and traffic.speed_mps[1] < 0.3


@pytest.mark.parametrize(
    ("state", "line_m", "speed_mps", "gap_m"),
    [
        (LightState.GREEN, 10.0, 8.0, np.inf),
        (LightState.UNKNOWN, 10.0, 8.0, np.inf),
        (LightState.RED, 10.0, 8.0, 10.0),
        (LightState.RED, -2.0, 8.0, np.inf),  # behind us
        (LightState.YELLOW, 20.0, 8.0, 20.0),
        (LightState.YELLOW, 5.0, 8.0, np.inf),  # too late to stop
    ],
)
def test_which_lights_bind(state, line_m, speed_mps, gap_m):
    assert gap_to_stop(np.array([line_m]), np.array([speed_mps]), np.array([state]))[0] == gap_m


def test_speed_profile_slows_before_a_bend():
    heading_rad = np.r_[np.zeros(100), np.linspace(0, 1.5, 30), np.full(50, 1.5)]
    speed_mps = speed_profile(heading_rad, np.full(len(heading_rad), 15.0))
    assert speed_mps[0] == 15.0
    assert speed_mps[110] == pytest.approx(np.sqrt(2.5 / (1.5 / 29)), rel=0.02)
    braking = -np.diff(speed_mps**2) / 2
    assert braking.max() <= 1.5 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_pure_functions_of_the_seed(kind):
    a, b = (drive(generate_scene(5, kind=kind, look=Look.RAIN), "random", seed=3) for _ in range(2))
    assert a.scene.scenery.look == Look.RAIN and a.scene.scene_id == f"{kind}-5"
    for track_a, track_b in zip(a.scene.tracks, b.scene.tracks, strict=True):
        np.testing.assert_array_equal(track_a.poses, track_b.poses)
    np.testing.assert_array_equal(a.waypoints, b.waypoints)
    assert a.infractions == b.infractions
    assert not np.array_equal(generate_scene(6, kind=kind).ego.poses[0], generate_scene(5, kind=kind).ego.poses[0])


def test_kinds_looks_and_turns_vary():
    drawn = [generate_scene(seed) for seed in range(40, 64)]
    assert {s.scene_id.split("-")[0] for s in drawn} == set(KINDS)
    assert {s.scenery.look for s in drawn} == set(Look) - {
        Look.SLABS,
        Look.NIGHT,
    }  # of the simple world, and of the demo


def test_unknown_names_are_refused(scenes):
    with pytest.raises(ValueError, match="unknown kind of scene 'lake'"):
        generate_scene(0, kind="lake")
    with pytest.raises(ValueError, match="unknown driver 'expret'"):
        drive(scenes[0], "expret")


def test_scenery_stands_off_the_road_and_boxes_start_apart(scenes):
    for scene in scenes:
        spots = [tree.xy_m for tree in scene.scenery.trees]
        spots += [c for b in scene.scenery.buildings for c in box_corners(b.pose, b.length_m, b.width_m)]
        boxes = np.array(spots)[:, None].repeat(4, axis=1)
        assert off_road(boxes, scene.road).all()
        traffic = Traffic(scene, mode="reactive", step=0)
        corners = box_corners(traffic.poses(), traffic.size_m[:, 0], traffic.size_m[:, 1])
        overlap = boxes_overlap(corners[:, None], corners[None])
        assert overlap.sum() - len(corners) <= 2  # a pedestrian may brush another


def test_expert_is_clean_and_keeps_moving(scenes, experts):
    clean = [d.infractions.score == 1.0 for d in experts]
    assert np.mean(clean) >= 0.9, [s.scene_id for s, ok in zip(scenes, clean, strict=True) if not ok]
    speeds = [d.scene.ego.speed_mps[8] for d in experts]
    assert np.median(speeds) > 5.0 and min(speeds) > 0.5
    for d in experts:
        assert d.scene.num_steps == NUM_FRAMES
        validate_waypoints(d.waypoints, what=d.scene.scene_id)
        np.testing.assert_array_equal(d.history_poses[-1], 0.0)


@pytest.mark.parametrize("driver", DRIVERS[1:])
def test_non_experts_share_the_history_and_part_at_once(driver, scenes, experts):
    apart_m = []
    for scene, expert in list(zip(scenes, experts, strict=True))[:8]:
        other = drive(scene, driver, seed=1)
        np.testing.assert_array_equal(other.history_poses, expert.history_poses)
        for a, b in zip(other.scene.tracks, expert.scene.tracks, strict=True):
            np.testing.assert_array_equal(a.poses[:9], b.poses[:9])
        assert not np.array_equal(other.scene.ego.poses[9:11], expert.scene.ego.poses[9:11])
        validate_waypoints(other.waypoints, what=scene.scene_id)
        apart_m.append(np.hypot(*(other.waypoints - expert.waypoints)[-1, :2]))
        if not other.infractions.collision:
            np.testing.assert_array_equal(other.waypoints, other.executed_waypoints)
    assert np.mean(np.array(apart_m) > 1.5) >= 0.6, apart_m


def test_swerves_go_to_their_side(scenes, experts):
    for scene, expert in list(zip(scenes, experts, strict=True))[::5]:  # the straight ones
        left_m, right_m = (drive(scene, f"swerve_{side}").waypoints[3, 1] for side in ("left", "right"))
        assert right_m < expert.waypoints[3, 1] - 1.0 < expert.waypoints[3, 1] + 1.0 < left_m


def test_a_collision_cuts_the_executed_path_short():
    scene = generate_scene(2, kind="straight")
    route, steps = ego_route(scene), scene.num_steps
    wall = Track(
        track_id=0, kind=TrackKind.VEHICLE, length_m=4.0, width_m=8.0, height_m=2.0,
        poses=np.tile(route.pose_at(route.find(scene.ego.poses[0]) + 35.0), (steps, 1)),
        velocity_mps=np.zeros((steps, 2)), valid=np.ones(steps, bool),
    )  # fmt: skip
    result = drive(replace(scene, tracks=(wall, scene.ego), ego_index=1, scenery=Scenery()), "rear_end")
    assert result.infractions.collision and result.infractions.score == pytest.approx(0.6)
    touched = np.flatnonzero(np.abs(result.waypoints - result.executed_waypoints).max(axis=1) > 1e-6)
    assert len(touched) and np.ptp(result.executed_waypoints[touched], axis=0).max() == 0.0
    assert np.all(np.diff(result.waypoints[:, 0]) > 1.0)
    assert result.scene.ego.speed_mps[-1] == 0.0


def test_a_vehicle_that_was_hit_stays():
    simulation = Simulation(generate_scene(3, kind="straight"))
    traffic, seen = simulation.traffic, simulation.observe()
    moving = int(traffic.moving[0])
    traffic.stop(moving)
    before = traffic.poses()[moving]
    traffic.step(seen.obstacles, seen.stop_states)
    np.testing.assert_array_equal(traffic.poses()[moving], before)


def test_data_prep_simulate_writes_a_store(tmp_path):
    script = Path(__file__).parent.parent / "data_prep" / "simulate.py"
    flags = ["--num_clips", "3", "--drivers", "expert", "swerve_left", "--drivers_per_scene", "2", "--num_workers", "1"]
    command = [sys.executable, str(script), "--height", "32", "--width", "56", *flags, "--seed", "7", "--output_dir"]
    subprocess.run([*command, str(tmp_path / "store")], check=True, capture_output=True)
    store = ClipStore(tmp_path / "store")
    store.verify()
    assert [clip.driver for clip in store.clips[:2]] in (["expert", "swerve_left"], ["swerve_left", "expert"])
    assert store.clips[0].scene_id == store.clips[1].scene_id != store.clips[2].scene_id
    frames = [store.read_frames(i, 32, 56) for i in (0, 1)]
    assert np.abs(frames[0][:9].astype(int) - frames[1][:9]).mean() < 2.5  # one history, but for the video's coding
    assert np.abs(frames[0][40:].astype(int) - frames[1][40:]).mean() > 3.0
    with pytest.raises(FileNotFoundError, match="was not kept with its clips"):
        store.read_scene(0)
    again = subprocess.run([*command, str(tmp_path / "store")], capture_output=True, text=True)
    assert again.returncode == 1 and "exists already" in again.stderr.strip().splitlines()[-1]
    kept = [*command[:-1], "--with_scenes", "--look", "night", "--output_dir", str(tmp_path / "kept")]
    subprocess.run(kept, check=True, capture_output=True)
    store = ClipStore(tmp_path / "kept")
    store.verify()
    assert len(store.scenes) == 2 and store.read_scene(0).scenery.look == Look.NIGHT
    again = drive(store.read_scene(2), store.clips[2].driver, seed=8)
    np.testing.assert_array_equal(again.waypoints, store.clips[2].waypoints)
    assert again.infractions == store.clips[2].infractions
    (tmp_path / "kept" / "scenes" / f"{store.clips[2].scene_id}.scene.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="its sha256 differs from the index"):
        store.verify()
    typo = subprocess.run(
        [*command[:-1], "--output_dir", str(tmp_path / "x"), "--drivers", "expret"], capture_output=True
    )
    assert typo.returncode == 1 and not (tmp_path / "x").exists()
