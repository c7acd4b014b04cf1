"""The painter: what stands where in the picture, what hides what, and that pictures are stable."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from resim.datatypes.geometry import simulation_camera
from resim.datatypes.road_map import Lane, LineStyle, RoadLine, RoadMap, StopKind, StopLine, Surface, SurfaceKind
from resim.datatypes.scene import Building, LightState, Look, Scene, Scenery, Track, TrackKind, Tree
from resim.datatypes.vehicle import CAR
from resim.simulation.drivers import Driver
from resim.simulation.generator.generate import generate_scene
from resim.simulation.painter.looks import lattice, unit_hash
from resim.simulation.painter.moment import moments
from resim.simulation.painter.painter import NEAR_M, Painter, clip_near, paint_clip
from resim.simulation.simulate import Simulation, drive

CAMERA = simulation_camera(256, 448)
AXLE_TO_CENTER_M = 1.4


def track(
    track_id, x_m, y_m, *, heading_rad=0.0, speed_mps=0.0, kind=TrackKind.VEHICLE, steps=3, height_m=1.5, valid=True
):
    along_m = speed_mps * 0.1 * np.arange(steps)
    x, y = x_m + along_m * np.cos(heading_rad), y_m + along_m * np.sin(heading_rad)
    length_m, width_m = (4.6, 1.9) if kind == TrackKind.VEHICLE else (0.6, 0.6)
    return Track(
        track_id=track_id, kind=kind, length_m=length_m, width_m=width_m, height_m=height_m,
        poses=np.stack([x, y, np.full(steps, heading_rad)], -1), valid=np.full(steps, valid),
        velocity_mps=np.tile(speed_mps * np.array([np.cos(heading_rad), np.sin(heading_rad)]), (steps, 1)),
    )  # fmt: skip


def scene(*others, ego_speed_mps=0.0, steps=3, lines=(), light=None, **scenery):
    """A straight two-way road along +x; the ego's axle starts at the origin of the world."""
    x = np.arange(-40.0, 200.0, 2.0)
    right, left = np.stack([x, 0 * x - 4], -1), np.stack([x, 0 * x + 7], -1)[::-1]
    middle = RoadLine(points_m=np.stack([x, 0 * x + 1.75], -1), style=LineStyle.DOUBLE)
    road = RoadMap(
        lanes=(Lane(lane_id=0, centerline_m=np.stack([x, 0 * x], -1), width_m=3.5, speed_limit_mps=14.0),),
        surfaces=(Surface(kind=SurfaceKind.DRIVABLE, polygon_m=np.concatenate([right, left])),),
        edges=(right, left), lines=(middle, *lines), stops=() if light is None else (LIGHT,),
    )  # fmt: skip
    ego = track(0, AXLE_TO_CENTER_M, 0, speed_mps=ego_speed_mps, steps=steps)
    return Scene(
        scene_id="test", source="test", dt_s=0.1, now_step=0, road=road, tracks=(ego, *others), ego_index=0,
        light_states=np.full((len(road.stops), steps), 0 if light is None else light, np.int8), ego_vehicle=CAR,
        scenery=Scenery(**scenery) if scenery else None,
    )  # fmt: skip


LIGHT = StopLine(
    stop_id=0, kind=StopKind.LIGHT, lane_ids=(0,), line_m=np.array([[12.0, -1.7], [12.0, 1.7]]),
    lamp_m=np.array([20.0, -3.0, 4.6]), heading_rad=0.0,
)  # fmt: skip


def paint(what, camera=CAMERA, step=0):
    return Painter(what, camera).paint(list(moments(what))[step]).astype(int)


def changed(first, second, threshold=12):
    """Rows and columns where two pictures differ clearly."""
    return np.nonzero(np.abs(first - second).max(-1) > threshold)


def pixel_of(x_m, y_m, z_m=0.0):
    return CAMERA.project(np.array([x_m, y_m, z_m]))[0]


@pytest.mark.parametrize("y_m", [-3.0, 0.0, 3.0])
def test_paint_on_the_ground_lands_where_the_camera_projects_it(y_m):
    mark = RoadLine(points_m=np.array([[9.0, y_m - 0.6], [9.0, y_m + 0.6]]), style=LineStyle.SOLID)
    rows, columns = changed(paint(scene(lines=(mark,))), paint(scene()))
    u, v = pixel_of(9.0, y_m)
    assert columns.mean() + 0.5 == pytest.approx(u, abs=1.0)
    assert rows.mean() + 0.5 == pytest.approx(v, abs=1.0)
    assert np.ptp(columns) == pytest.approx(1.2 * CAMERA.fx_px / 7.5, abs=8)


def test_car_ahead_stands_in_the_middle_with_its_wheels_on_the_road():
    rows, columns = changed(paint(scene(track(1, 12.3, 0.0))), paint(scene()))
    assert columns.mean() == pytest.approx(CAMERA.cx_px, abs=3)
    assert rows.max() == pytest.approx(pixel_of(10.0, 0.0)[1], abs=3)  # the rear bumper is 10 m from the axle
    assert rows.min() == pytest.approx(pixel_of(12.0, 0.0, 1.5)[1], abs=3)


@pytest.mark.parametrize("kind", list(TrackKind))
def test_left_is_left_and_right_is_right(kind):
    empty = paint(scene())
    assert changed(paint(scene(track(1, 14.0, 4.0, kind=kind))), empty)[1].max() < CAMERA.cx_px
    assert changed(paint(scene(track(1, 14.0, -4.0, kind=kind))), empty)[1].min() > CAMERA.cx_px


def test_nearer_box_hides_the_farther_one():
    truck = track(1, 12.0, 0.0, height_m=3.2)
    hidden = track(2, 24.0, 0.0)
    assert np.array_equal(paint(scene(truck, hidden)), paint(scene(truck)))
    assert np.array_equal(paint(scene(hidden, truck)), paint(scene(truck)))


@pytest.mark.parametrize("side", [-1, 1])
def test_tree_stands_in_front_of_the_long_building_behind_it(side):
    building = Building(pose=np.array([40.0, side * 18.0, 0.0]), length_m=60.0, width_m=12.0, height_m=9.0, shade=0.5)
    for x_m in (21.0, 38.0):
        tree = Tree(xy_m=np.array([x_m, side * 9.5]), height_m=6.0)
        alone, both = paint(scene(trees=(tree,))), paint(scene(trees=(tree,), buildings=(building,)))
        rows, columns = changed(alone, paint(scene()), threshold=40)
        inner = (columns > 2) & (columns < CAMERA.width_px - 3)
        same = np.abs(alone - both)[rows[inner], columns[inner]].max(-1) < 40
        assert same.mean() > 0.9


def test_lamp_shows_the_colour_of_the_light():
    at = {LightState.RED: 0.75, LightState.YELLOW: 0.0, LightState.GREEN: -0.75}
    for state, offset_m in at.items():
        u, v = pixel_of(19.68, -3.0, 4.6 + offset_m).astype(int)
        r, g, b = paint(scene(light=state))[v, u]
        assert {LightState.RED: r > 180 > 90 > g, LightState.YELLOW: min(r, g) > 150 > 90 > b,
                LightState.GREEN: g > 180 > 90 > r}[state]  # fmt: skip
    u, v = pixel_of(19.68, -3.0, 4.6 + 0.75).astype(int)
    assert paint(scene(light=LightState.UNKNOWN))[v, u].max() < 110


def test_tail_lamps_brighten_when_a_car_brakes():
    cruising = track(1, 12.3, 0.0, speed_mps=8.0)
    braking = replace(cruising, velocity_mps=np.array([[8.0, 0.0], [7.8, 0.0], [7.6, 0.0]]))
    first, second = paint(scene(cruising), step=2), paint(scene(braking), step=2)
    rows, columns = changed(first, second)
    assert len(rows) > 20
    assert np.all(second[rows, columns, 0] > first[rows, columns, 0])


def test_nothing_moves_nothing_changes_and_driving_expands_the_view():
    standing = paint_clip(scene(track(1, 20.0, 0.0)), CAMERA)
    assert standing.shape == (3, 256, 448, 3) and standing.dtype == np.uint8
    assert np.array_equal(standing[0], standing[2])
    driving = scene(track(1, 20.0, 0.0), ego_speed_mps=20.0)
    empty = scene(ego_speed_mps=20.0)
    sizes = [len(changed(paint(driving, step=s), paint(empty, step=s))[0]) for s in (0, 2)]
    assert sizes[1] > 1.3 * sizes[0]
    ground = paint_clip(empty, CAMERA)[:, 150:].astype(int)
    assert np.abs(ground[1] - ground[0]).mean() > 1.0  # the road shows that it moves, without any object


def test_turning_left_moves_the_view_to_the_right():
    other = track(1, 25.0, 0.0)
    columns = []
    for heading_rad in (0.0, 0.1):
        turned = [
            replace(
                scene(*others),
                tracks=(track(0, AXLE_TO_CENTER_M * np.cos(heading_rad), AXLE_TO_CENTER_M * np.sin(heading_rad),
                              heading_rad=heading_rad), *others),
            )
            for others in ((), (other,))
        ]  # fmt: skip
        columns.append(changed(paint(turned[1]), paint(turned[0]))[1].mean())
    assert columns[1] - columns[0] == pytest.approx(CAMERA.fx_px * np.tan(0.1), abs=8)


def test_invalid_tracks_are_not_painted_and_an_invalid_ego_is_an_error():
    assert np.array_equal(paint(scene(track(1, 12.0, 0.0, valid=False))), paint(scene()))
    with pytest.raises(ValueError, match="ego is not valid"):
        paint_clip(replace(scene(), tracks=(track(0, 0.0, 0.0, valid=False),)), CAMERA)
    with pytest.raises(ValueError, match="road line style 'dotted'"):
        Painter(scene(lines=(RoadLine(points_m=np.array([[0.0, 0], [9, 0]]), style="dotted"),)), CAMERA)


def test_slabs_are_light_and_dark_in_turn_and_stay_where_they_are():
    def road(picture, x_m):
        u, v = pixel_of(x_m, 0.0)
        return picture[round(v) - 1 : round(v) + 2, round(u) - 3 : round(u) + 4].mean()

    middles_m = -40.0 + 4.2 * (np.arange(12, 17) + 0.5)  # the lane begins at -40 m
    still = paint(scene(look=Look.SLABS))
    grey = np.array([road(still, x_m) for x_m in middles_m])
    assert np.all(grey[1::2] > 1.4 * grey[::2][:2]) and np.all(grey[1::2] > 1.4 * grey[::2][1:])
    moved = scene(look=Look.SLABS, ego_speed_mps=21.0)
    ahead = [road(paint(moved, step=2), x_m - 4.2) for x_m in middles_m]  # 2 steps of 2.1 m
    np.testing.assert_allclose(ahead, grey, rtol=0.15)


def test_polygons_across_the_near_plane_are_cut_there():
    square = np.array([[-1.0, 1, 0], [3, 1, 0], [3, -1, 0], [-1, -1, 0]])
    cut = clip_near(square)
    assert len(cut) == 4 and cut[:, 0].min() == pytest.approx(NEAR_M) and cut[:, 0].max() == 3
    bus = replace(track(1, 6.0, 3.0, height_m=3.2), length_m=14.0)  # reaches from behind the camera to ahead of it
    beside = paint(scene(bus))
    rows, columns = changed(beside, paint(scene()))
    assert len(rows) > 500 and columns.max() < CAMERA.cx_px and columns.min() == 0


@pytest.mark.parametrize("look", list(Look))
def test_small_and_large_pictures_show_the_same(look):
    drawn = drive(generate_scene(3, kind="intersection", look=look), "expert").scene
    now = list(moments(drawn))[8]
    large = Painter(drawn, CAMERA).paint(now)
    small = Painter(drawn, simulation_camera(64, 112)).paint(now)
    reduced = cv2.resize(large, (112, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(int) - small).mean() < 4.0
    assert np.std(small) > 15


@pytest.mark.parametrize("kind", ["straight", "roundabout"])
def test_the_past_looks_alike_whatever_the_ego_does_next(kind):
    camera = simulation_camera(64, 112)
    made = generate_scene(5, kind=kind)
    expert, other = (paint_clip(drive(made, driver).scene, camera) for driver in ("expert", "swerve_left"))
    np.testing.assert_array_equal(expert[:9], other[:9])
    assert np.abs(expert[40:].astype(int) - other[40:]).mean() > 1.0


def test_frame_by_frame_online_is_all_at_once_to_the_bit():
    camera = simulation_camera(64, 112)
    simulation = Simulation(generate_scene(8, kind="intersection"))

    class Watching(Driver):
        cameras = {"front": camera}
        seen = []

        def act(self, observation):
            self.seen.append(observation.frames["front"])
            return super().act(observation)

    watching = Watching("random", seed=2)
    done = simulation.drive(watching, "random")
    assert len(watching.seen) == 40
    np.testing.assert_array_equal(paint_clip(done.scene, camera)[8:-1], np.stack(watching.seen))
    np.testing.assert_array_equal(done.scene.ego.poses, drive(simulation.scene, "random", seed=2).scene.ego.poses)


def test_pictures_are_a_pure_function_of_the_scene():
    drawn = drive(generate_scene(4), "expert").scene
    camera = simulation_camera(64, 112)
    steps = list(moments(drawn))
    forward, backward = Painter(drawn, camera), Painter(drawn, camera)
    frames = [forward.paint(steps[step]) for step in (0, 20, 40)]
    for step, frame in ((40, frames[2]), (20, frames[1]), (0, frames[0])):
        assert np.array_equal(backward.paint(steps[step]), frame)
    assert 0 <= unit_hash("a", 1) < 1 and unit_hash("a", 1) != unit_hash("a", 2)
    assert unit_hash("painter") == pytest.approx(0.21908, abs=1e-5)  # the same on every machine and in every run
    assert np.array_equal(lattice(7, -3, 5, (4, 6))[1:, 2:], lattice(7, -1, 6, (3, 4)))  # one infinite lattice


@pytest.mark.parametrize(
    ("yaw_deg", "pitch_deg", "roll_deg"), [(25, 2, 0), (-40, 2, 0), (0, 2, 8), (0, 6, -12), (20, 4, 10)]
)
def test_cameras_that_look_aside_or_tilt_paint_where_they_project(yaw_deg, pitch_deg, roll_deg):
    angles = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
    camera = replace(CAMERA, yaw_rad=angles[0], pitch_rad=angles[1], roll_rad=angles[2])
    side_m = 9.0 * np.tan(np.deg2rad(yaw_deg))
    mark = RoadLine(points_m=np.array([[9.0, side_m - 0.5], [9.0, side_m + 0.5]]), style=LineStyle.SOLID)
    rows, columns = changed(paint(scene(lines=(mark,)), camera), paint(scene(), camera))
    u, v = camera.project(np.array([9.0, side_m, 0.0]))[0]
    assert columns.mean() + 0.5 == pytest.approx(u, abs=1.5) and rows.mean() + 0.5 == pytest.approx(v, abs=1.5)
    car = track(1, 16.0, 16.0 * np.tan(np.deg2rad(yaw_deg)))
    rows, columns = changed(paint(scene(car), camera), paint(scene(), camera))
    u, v = camera.project(np.array([*car.poses[0, :2], 0.7]))[0]
    assert columns.mean() == pytest.approx(u, abs=12) and rows.mean() == pytest.approx(v, abs=12)


def test_a_map_that_knows_its_lanes_alone_is_painted_too():
    lane = Lane(lane_id=3, centerline_m=np.array([[-40.0, 0.0], [60.0, 0.0], [200.0, 0.0]]), width_m=4.0)
    bare = replace(scene(), road=RoadMap(lanes=(lane, replace(lane, lane_id=4, width_m=None))))
    u, v = pixel_of(9.0, 0.0).astype(int)
    beside = pixel_of(9.0, 5.0).astype(int)
    picture = paint(bare)
    assert np.ptp(picture[v, u]) < 25 < np.ptp(picture[beside[1], beside[0]])  # asphalt is grey, the verge is green
