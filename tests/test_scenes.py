"""Scenes that nobody generated for the simulator: built by hand, recorded, written and read back."""

import json
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.data.scenes import read_scene, write_scene
from resim.datatypes.geometry import simulation_camera, to_frame
from resim.datatypes.road_map import Lane, RoadMap, StopKind, StopLine, Surface, SurfaceKind
from resim.datatypes.scene import Intent, LightState, Scene, Track, TrackKind, center_poses
from resim.datatypes.vehicle import CAR
from resim.simulation.drivers import DRIVERS, Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.painter import paint_clip
from resim.simulation.paths import path_along, path_of_track
from resim.simulation.policies import LogReplay, RouteFollower
from resim.simulation.simulate import Simulation, drive, record

TRUCK = replace(
    CAR, length_m=10.0, width_m=2.5, height_m=3.5, wheelbase_m=6.0, rear_axle_to_center_m=3.0, max_accel_mps2=1.5,
    max_brake_mps2=5.0, max_steer_rate_radps=0.4,
)  # fmt: skip
LIGHTS_M, SIGN_M = (80.0, 170.0, 260.0), 330.0
STEPS = 1050


def straight(*others, vehicle=CAR, lights=True, steps=STEPS, speed_mps=8.0, x_m=0.0, **changes):
    """One lane along +x; the ego's axle starts at ``x_m``. Three lights and a stop sign stand at it."""
    x = np.arange(-50.0, 600.0, 2.0)
    lane = Lane(lane_id=7, centerline_m=np.stack([x, 0 * x], -1), width_m=3.5, speed_limit_mps=10.0)
    edge = np.array([[-50.0, -3.0], [600.0, -3.0], [600.0, 3.0], [-50.0, 3.0]])
    stops = [
        StopLine(stop_id=i, kind=StopKind.LIGHT, lane_ids=(7,), heading_rad=0.0, line_m=np.array([[m, -1.7], [m, 1.7]]))
        for i, m in enumerate(LIGHTS_M)
    ]
    stops.append(StopLine(stop_id=3, kind=StopKind.STOP, lane_ids=(7,), point_m=np.array([SIGN_M, 0.0])))
    states = np.zeros((4, steps), np.int8)
    states[:3] = LightState.GREEN
    for i, (first, last) in enumerate(((0, 250), (0, 500), (0, 740))):  # each is still red when the ego comes
        states[i, first:last] = LightState.RED
    center_m = x_m + vehicle.rear_axle_to_center_m
    ego = standing(0, center_m, vehicle=vehicle, steps=steps, speed_mps=speed_mps)
    made = Scene(
        scene_id="by-hand", source="by hand", dt_s=0.1, now_step=0,
        road=RoadMap(
            lanes=(lane,), surfaces=(Surface(kind=SurfaceKind.DRIVABLE, polygon_m=edge),),
            stops=tuple(stops) if lights else (),
        ),
        tracks=(ego, *others), ego_index=0, ego_vehicle=vehicle, light_states=states[: 4 * lights],
        ego_steer_rad=np.zeros(steps), route_lane_ids=(7,),
    )  # fmt: skip
    return replace(made, **changes)


def standing(track_id, x_m, *, y_m=0.0, vehicle=CAR, steps=STEPS, speed_mps=0.0, kind=TrackKind.VEHICLE, **more):
    return Track(
        track_id=track_id, kind=kind, length_m=vehicle.length_m, width_m=vehicle.width_m, height_m=vehicle.height_m,
        poses=np.tile([x_m, y_m, 0.0], (steps, 1)), velocity_mps=np.tile([speed_mps, 0.0], (steps, 1)),
        valid=np.ones(steps, bool), **more,
    )  # fmt: skip


def fronts_and_speeds(scene):
    front_m = scene.ego.poses[:, 0] + scene.ego.length_m / 2
    return front_m, scene.ego.speed_mps


@pytest.mark.parametrize("vehicle", [CAR, TRUCK], ids=["car", "truck"])
def test_the_expert_stops_at_every_light_and_at_the_stop_sign(vehicle):
    done = drive(straight(vehicle=vehicle), "expert")
    front_m, speed_mps = fronts_and_speeds(done.scene)
    for line_m in (*LIGHTS_M, SIGN_M):
        waits = (front_m > line_m - 6.0) & (front_m < line_m)
        assert speed_mps[waits].min() < 0.1, line_m
        assert not np.any((front_m[:-1] < line_m) & (front_m[1:] >= line_m) & (speed_mps[1:] < 0.3))
    assert front_m[-1] > SIGN_M + 30.0
    assert not done.infractions.red_light and done.infractions.score == 1.0


def test_a_driver_who_is_blind_to_lights_runs_the_first_of_three():
    done = drive(straight(), "run_light")
    assert done.infractions.red_light


def test_traffic_stops_at_every_light_too():
    lane_car = standing(1, 20.0, intent=Intent(along_m=np.full(STEPS, 70.0), lane_ids=(7,)), speed_mps=8.0)
    lane_car = replace(lane_car, valid=np.arange(STEPS) == 0)
    far_behind = straight(lane_car, x_m=-40.0, speed_mps=0.0)
    simulation = Simulation(far_behind)
    speeds, fronts = [], []
    for _ in range(STEPS - 1):
        simulation.step(Driver("hard_brake").act(simulation.observe()))
        speeds.append(float(simulation.traffic.speed_mps[0]))
        fronts.append(float(simulation.traffic.along_m[0]) - 50.0 + CAR.length_m / 2)
    speed_mps, front_m = np.array(speeds), np.array(fronts)
    for line_m in (*LIGHTS_M, SIGN_M):
        assert speed_mps[(front_m > line_m - 6.0) & (front_m < line_m)].min() < 0.1, line_m
    assert front_m[-1] > SIGN_M + 20.0


def test_a_truck_keeps_its_own_distance_and_limits():
    wall = standing(1, 60.0, steps=200)
    for vehicle in (CAR, TRUCK):
        done = drive(straight(wall, vehicle=vehicle, lights=False, steps=200), "expert")
        front_m, _ = fronts_and_speeds(done.scene)
        assert 1.0 < 60.0 - CAR.length_m / 2 - front_m[-1] < 5.0
        assert not done.infractions.collision
    simulation = Simulation(straight(vehicle=TRUCK, lights=False, steps=60))
    slowdown = []
    for seed in range(8):
        speed_mps = simulation.drive(Driver("hard_brake", seed=seed), "hard_brake").scene.ego.speed_mps
        slowdown.append(-np.diff(speed_mps).min() / 0.1)
    assert max(slowdown) == pytest.approx(5.0) and min(slowdown) >= 4.0  # it wants 4 to 8 m/s2, and a car can


def test_nothing_meets_on_two_levels():
    for height_m, hits in ((6.0, False), (1.0, True)):
        other = standing(1, 40.0, steps=100, z_m=np.full(100, height_m))
        made = straight(other, lights=False, steps=100)
        made = replace(made, tracks=(replace(made.ego, z_m=np.full(100, 0.5)), other))
        assert drive(made, "rear_end").infractions.collision == hits
        assert (drive(made, "expert").scene.ego.poses[-1, 0] < 40.0) == hits


@pytest.mark.parametrize("kind", ["curve", "intersection", "roundabout"])
def test_every_driver_drives_a_scene_read_back_as_before(kind, tmp_path):
    made = generate_scene(12, kind=kind)
    write_scene(tmp_path / "one.scene.npz", made)
    back = read_scene(tmp_path / "one.scene.npz")
    before, after = Simulation(made), Simulation(back)
    for name in DRIVERS:
        one, two = (s.drive(Driver(name, seed=3), name) for s in (before, after))
        assert one.infractions == two.infractions
        np.testing.assert_array_equal(one.rounds_R83, two.rounds_R83)
        for a, b in zip(one.scene.tracks, two.scene.tracks, strict=True):
            np.testing.assert_array_equal(a.poses, b.poses)
            np.testing.assert_array_equal(a.velocity_mps, b.velocity_mps)


@given(seed=st.integers(0, 10_000), simple=st.booleans())
def test_a_scene_on_disk_is_the_scene_to_the_bit(seed, simple, tmp_path_factory):
    made = generate_scene(seed, simple=simple, num_steps=12)
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "a.scene.npz", made)
    assert list(folder.iterdir()) == [folder / "a.scene.npz"]
    back = read_scene(folder / "a.scene.npz")
    assert_equal(asdict(made), asdict(back))
    assert type(back.road.lanes[0].kind) is type(made.road.lanes[0].kind)


def assert_equal(a, b):
    assert type(a) is type(b), (a, b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_equal(x, y)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_what_is_no_scene_is_refused(tmp_path):
    file = tmp_path / "a.scene.npz"
    with pytest.raises(ValueError, match="ends in .scene.npz"):
        write_scene(tmp_path / "a.npz", generate_scene(0, num_steps=12))
    with pytest.raises(FileNotFoundError):
        read_scene(file)
    file.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="not a scene's file, or damaged"):
        read_scene(file)
    write_scene(file, generate_scene(0, num_steps=12))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="a.scene.npz: not a scene's file, or damaged"):
        read_scene(file)
    np.savez_compressed(file, layout=np.frombuffer(json.dumps({"version": 99}).encode(), np.uint8))
    with pytest.raises(ValueError, match="scene version 99, this code reads 1"):
        read_scene(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other.npy", b"")
    with pytest.raises(ValueError, match="damaged"):
        read_scene(file)


def as_recorded(scene):
    """What a log would know of a scene: no intents, no route, no steering."""
    tracks = tuple(replace(track, intent=None) for track in scene.tracks)
    return replace(scene, tracks=tracks, route_lane_ids=None, ego_steer_rad=None, goal_m=None)


@pytest.mark.parametrize("kind", ["straight", "curve", "intersection", "merge", "roundabout"])
@pytest.mark.parametrize("mode", ["reactive", "replay"])
def test_a_recorded_scene_runs_with_reacting_and_with_replayed_traffic(kind, mode):
    log = as_recorded(generate_scene(21, kind=kind))
    done = Simulation(log, mode=mode).drive(LogReplay(log), "log")
    away_m = np.hypot(*(done.scene.ego.poses - log.ego.poses)[:, :2].T)
    assert away_m.max() < 0.7, away_m.max()
    assert not done.infractions.collision
    for before, after in zip(log.others(), done.scene.others(), strict=True):
        np.testing.assert_array_equal(before.poses[:8], after.poses[:8])
        if mode == "replay":
            np.testing.assert_array_equal(before.poses, after.poses)
    expert = drive(log, "expert", mode=mode)
    assert expert.infractions.progress > 0.5


def test_in_replay_nobody_reacts_and_in_reactive_traffic_a_follower_brakes():
    behind = standing(1, -12.0, speed_mps=8.0, steps=80)
    moving = replace(behind, poses=behind.poses + np.arange(80)[:, None] * np.array([0.8, 0.0, 0.0]))
    log = as_recorded(straight(moving, lights=False, steps=80))
    ends = {
        mode: Simulation(log, mode=mode).drive(Driver("hard_brake"), "hard_brake") for mode in ("reactive", "replay")
    }
    ego_m, other_m = ends["reactive"].scene.tracks[0].poses[-1, 0], ends["reactive"].scene.tracks[1].poses[-1, 0]
    assert other_m < ego_m - CAR.length_m
    assert ends["replay"].infractions.collision and not ends["reactive"].infractions.collision


@pytest.mark.parametrize("kind", ["straight", "curve", "intersection"])
def test_a_policy_that_plans_anew_every_half_second(kind):
    made = generate_scene(33, kind=kind)
    policy = RouteFollower(decision_s=0.5)
    asked = []
    act = policy.act
    policy.act = lambda observation: asked.append(observation.step) or act(observation)
    done = Simulation(made).drive(policy, "planner")
    assert asked == list(range(8, 48, 5))
    expert = drive(made, "expert")
    assert np.hypot(*(done.executed_waypoints - expert.executed_waypoints)[-1, :2]) < 4.0
    assert done.infractions.score > 0.9 and not done.infractions.off_road


def test_one_driver_may_drive_again_and_elsewhere():
    made = [generate_scene(seed, kind="curve") for seed in (2, 3)]
    driver = Driver("random", seed=1)
    for scene in (made[0], made[0], made[1]):
        again = Simulation(scene).drive(driver, "random")
        np.testing.assert_array_equal(again.rounds_R83, drive(scene, "random", seed=1).rounds_R83)


def test_a_driver_who_takes_over_later_draws_his_plan_then():
    made = generate_scene(2, kind="curve")
    used, fresh = Driver("random", seed=1), Driver("random", seed=1)
    Simulation(made).drive(used, "random")
    ends = [record(Simulation(made, step=20), driver, 20).executed[-1] for driver in (used, fresh)]
    np.testing.assert_array_equal(*ends)


def unknown(track, missing):
    """The track with nothing known at the steps that ``missing`` (T,) marks: NaN, as importers leave it."""
    holes = np.where(missing[:, None], np.nan, 1.0)
    return replace(track, poses=track.poses * holes, velocity_mps=track.velocity_mps * holes, valid=~missing)


def test_what_a_log_does_not_know_is_neither_driven_nor_painted_nor_judged():
    made = as_recorded(generate_scene(21, kind="straight"))
    late, steps = np.arange(made.num_steps) < 3, np.arange(made.num_steps)
    others = tuple(unknown(track, late) for track in made.others())
    camera = simulation_camera(64, 112)
    seen, known = (paint_clip(log, camera).astype(int) for log in (replace(made, tracks=(*others, made.ego)), made))
    assert np.abs(seen - known)[3:].max() <= 20 < np.abs(seen - known)[:3].max()  # walkers are in another stride
    gone = replace(made, tracks=(*made.others(), unknown(made.ego, steps > 45)))
    whole, cut = (drive(log, "hard_brake").infractions for log in (made, gone))
    assert whole.too_slow and cut.too_slow and 0.0 < cut.progress - whole.progress < 0.1
    assert np.isfinite(Simulation(gone).drive(LogReplay(gone), "log").executed_waypoints).all()
    begins = replace(made, tracks=(*made.others(), unknown(made.ego, steps < made.now_step)))
    done = drive(begins, "expert")
    assert np.isfinite(done.rounds_R83).all() and np.isnan(done.history_poses[:-1]).all()


def test_a_replayed_drive_can_be_driven_again_with_reacting_traffic():
    replayed = Simulation(generate_scene(21), mode="replay").drive(Driver("expert"), "expert").scene
    assert np.isfinite(drive(replayed, "expert").rounds_R83).all()


@pytest.mark.parametrize("points", [2, 300])
def test_who_stands_in_a_lane_is_seen_however_few_points_it_has(points):
    made = straight(standing(1, 60.0, steps=200), lights=False, steps=200)
    lane = replace(made.road.lanes[0], centerline_m=np.linspace([-50.0, 0.0], [600.0, 0.0], points))
    done = drive(replace(made, road=replace(made.road, lanes=(lane,))), "expert")
    assert not done.infractions.collision and done.scene.ego.poses[-1, 0] < 56.0


def test_a_creeping_car_is_not_parked_and_a_route_at_the_border_looks_ahead():
    road = RoadMap(lanes=())
    creeping = standing(1, 0.0, steps=90)
    creeping = replace(creeping, poses=creeping.poses + np.arange(90)[:, None] * np.array([0.045, 0.0, 0.0]))
    path = path_of_track(road, creeping)
    assert path is not None and path.length_m > 100.0
    north = replace(standing(1, 0.0), poses=np.tile([0.0, 600.0, np.pi / 2], (STEPS, 1)))
    lane = Lane(lane_id=1, centerline_m=np.array([[0.0, 590.0], [0.0, 600.0]]), width_m=3.5)
    path = path_of_track(RoadMap(lanes=(lane,)), north, parked_m=0.0)
    np.testing.assert_allclose(path.headings_rad, np.pi / 2)


def test_a_stop_whose_lanes_lie_beyond_the_map_stops_nobody():
    made = as_recorded(straight(steps=60))
    bare = StopLine(stop_id=4, kind=StopKind.LIGHT, lane_ids=(99,))
    road = replace(made.road, stops=(*made.road.stops, bare, replace(bare, lane_ids=())))
    states = np.full((6, 60), LightState.RED, np.int8)
    assert not drive(replace(made, road=road, light_states=states), "expert").infractions.red_light


def test_a_policy_cannot_change_the_world_it_sees():
    simulation = Simulation(generate_scene(2))
    seen = simulation.observe()
    with pytest.raises(ValueError, match="read-only"):
        seen.boxes.size_m[:] = 99.0
    seen.ego_state[:] = 0.0
    assert simulation.intended[3] > 0.0


def test_the_wheel_of_a_log_without_steering_is_read_off_its_turn():
    made = generate_scene(2, kind="curve")
    known, read = Simulation(made), Simulation(replace(made, ego_steer_rad=None))
    assert read.state[4] == pytest.approx(known.state[4], abs=0.02)


def test_a_scene_whose_parts_do_not_fit_is_refused():
    made = generate_scene(2, kind="intersection")
    with pytest.raises(ValueError, match=r"light_states are \(4, 48\); the map has 4 stops and the ego 49 steps"):
        replace(made, light_states=made.light_states[:, 1:])
    short = replace(made.tracks[0], valid=made.tracks[0].valid[:-1])
    with pytest.raises(ValueError, match="track 0 has 49 poses, 49 velocities and 48 flags"):
        replace(made, tracks=(short, *made.tracks[1:]))
    with pytest.raises(ValueError, match="now_step 49 is none of its 49 steps"):
        replace(made, now_step=49)
    with pytest.raises(ValueError, match="ego_index -1, but"):
        replace(made, ego_index=-1)
    with pytest.raises(ValueError, match="ego_steer_rad has 2 rows; the ego has 49 steps"):
        replace(made, ego_steer_rad=np.zeros(2))
    with pytest.raises(ValueError, match="mode 'Replay': choose one of reactive, replay"):
        Simulation(made, mode="Replay")
    with pytest.raises(ValueError, match="has no ego at step 100"):
        Simulation(made, step=100)


def test_a_log_that_does_not_know_its_ego_or_ends_too_soon_is_refused():
    made = generate_scene(2)
    ego = replace(made.ego, valid=np.arange(made.num_steps) != made.now_step)
    with pytest.raises(ValueError, match="has no ego at step 8"):
        Simulation(replace(made, tracks=(*made.others(), ego)))
    with pytest.raises(ValueError, match="less than 4 s of log after t = 0"):
        drive(generate_scene(2, num_steps=30), "expert")
    simulation = Simulation(generate_scene(2, num_steps=12))
    for _ in range(3):
        simulation.step(Driver("expert").act(simulation.observe()))
    with pytest.raises(IndexError, match="ends with step 11"):
        simulation.step(Driver("expert").act(simulation.observe()))


def test_lights_of_a_map_that_knows_lanes_alone_bind_where_the_junction_begins():
    def lane(lane_id, start, end, **more):
        return Lane(lane_id=lane_id, centerline_m=np.linspace(start, end, 20), width_m=3.5, **more)

    arriving = lane(1, (0.0, 0.0), (40.0, 0.0), successor_ids=(2,))
    through = lane(2, (40.0, 0.0), (60.0, 0.0), successor_ids=(3,), in_intersection=True)
    leaving = lane(3, (60.0, 0.0), (120.0, 0.0))
    road = RoadMap(lanes=(arriving, through, leaving), stops=(StopLine(stop_id=0, kind=StopKind.LIGHT, lane_ids=(2,)),))
    path = path_along(road, (1, 2, 3))
    assert path.stop_m == pytest.approx([40.0], abs=1.0) and path.stop_index.tolist() == [0]
    assert [one.lane_id for one in road.lanes_near(np.array([50.0, 1.0]), 2.0)] == [2]
    np.testing.assert_allclose(to_frame(center_poses(np.zeros(3), TRUCK), np.zeros(3)), [3.0, 0.0, 0.0])
