"""Each infraction in a scene made by hand, the score as their product, and the geometry below them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.datatypes.boxes import box_corners, boxes_overlap
from resim.datatypes.geometry import from_frame
from resim.datatypes.road_map import Lane, RoadMap, StopKind, StopLine, Surface, SurfaceKind
from resim.datatypes.scene import LightState, Scene, Track, TrackKind
from resim.datatypes.vehicle import CAR
from resim.simulation.infractions import Contact, judge, off_road, on_the_road

STEPS = 41
ROAD = np.array([[-20.0, -4.0], [200.0, -4.0], [200.0, 4.0], [-20.0, 4.0]])
LINE = np.stack([np.arange(-20.0, 200.0, 2.0), np.zeros(110)], -1)
EAST = Lane(lane_id=0, centerline_m=LINE + [0, -2], width_m=4.0, speed_limit_mps=14.0)
ROADS = (Surface(kind=SurfaceKind.DRIVABLE, polygon_m=ROAD),)
WEST = Lane(lane_id=1, centerline_m=(LINE + [0, 2])[::-1], width_m=4.0, speed_limit_mps=14.0)


STOP = StopLine(
    stop_id=0, kind=StopKind.LIGHT, lane_ids=(0,), line_m=np.array([[20.0, -4.0], [20.0, 0.0]]),
    lamp_m=np.array([30.0, -5.0, 4.5]), heading_rad=0.0,
)  # fmt: skip


def scene(y_m=-2.0, speed_mps=10.0, heading_rad=0.0, light=None, lanes=(EAST, WEST), stop=STOP):
    """The ego drives along +x at ``y_m`` from x = 0 at a steady speed."""
    x_m = speed_mps * 0.1 * np.arange(STEPS) * np.cos(heading_rad)
    poses = np.stack([x_m, np.broadcast_to(y_m, STEPS), np.full(STEPS, heading_rad)], -1)
    ahead = np.array([np.cos(heading_rad), np.sin(heading_rad)])
    ego = Track(
        track_id=0, kind=TrackKind.VEHICLE, length_m=4.6, width_m=1.9, height_m=1.5, poses=poses,
        velocity_mps=np.tile(speed_mps * ahead, (STEPS, 1)), valid=np.ones(STEPS, bool),
    )  # fmt: skip
    stops = () if light is None else (stop,)
    return Scene(
        scene_id="by-hand", source="by hand", dt_s=0.1, now_step=0,
        road=RoadMap(lanes=lanes, surfaces=ROADS, stops=stops), tracks=(ego,), ego_index=0, ego_vehicle=CAR,
        light_states=np.full((len(stops), STEPS), 0 if light is None else light, np.int8),
    )  # fmt: skip


def judged(made, contact=None, reference_m=40.0):
    return judge(made, first_step=0, contact=contact, reference_m=reference_m)


def test_a_clean_drive_scores_one():
    found = judged(scene(light=LightState.GREEN))
    assert found.score == 1.0 and found.progress == pytest.approx(1.0)
    assert not (found.collision or found.off_road or found.red_light or found.wrong_way or found.too_slow)


@pytest.mark.parametrize(("kind", "factor"), [("pedestrian", 0.50), ("vehicle", 0.60), ("static", 0.65)])
def test_collision_factors(kind, factor):
    found = judged(scene(), contact=Contact(kind=kind, track_index=None))
    assert found.collision and found.score == pytest.approx(factor)


def test_red_light():
    found = judged(scene(light=LightState.RED))
    assert found.red_light and found.score == pytest.approx(0.7)
    for state in (LightState.YELLOW, LightState.UNKNOWN):
        assert not judged(scene(light=state)).red_light
    assert not judged(scene(y_m=2.0, light=LightState.RED)).red_light  # beside the stop line
    assert not judged(scene(speed_mps=3.0, light=LightState.RED)).red_light  # stays before it


def test_a_light_that_knows_no_more_than_its_lanes_stands_at_the_end_of_the_first():
    short = replace(EAST, centerline_m=EAST.centerline_m[:21])  # it ends at x = 20
    bare = StopLine(stop_id=0, kind=StopKind.LIGHT, lane_ids=(0,))
    assert judged(scene(light=LightState.RED, lanes=(short, WEST), stop=bare)).red_light
    assert not judged(scene(light=LightState.RED, speed_mps=3.0, lanes=(short, WEST), stop=bare)).red_light


def test_the_road_has_holes_and_may_be_known_by_its_lanes_alone():
    hole = np.array([[8.0, -4.0], [12.0, -4.0], [12.0, 0.0], [8.0, 0.0]])
    holed = RoadMap(lanes=(), surfaces=(Surface(kind=SurfaceKind.DRIVABLE, polygon_m=ROAD, holes_m=(hole,)),))
    places = np.array([[5.0, -2.0], [10.0, -2.0], [15.0, -9.0]])
    np.testing.assert_array_equal(on_the_road(places, holed), [True, False, False])
    np.testing.assert_array_equal(on_the_road(places, RoadMap(lanes=(EAST,))), [True, True, False])
    assert on_the_road(places, RoadMap(lanes=())).all()  # nobody knows


def test_off_road_counts_by_its_share_of_the_way():
    y_m = np.where(np.arange(STEPS) <= 20, -2.0, -9.0)
    made = scene(y_m=y_m)
    found = judged(made)
    driven_m = np.hypot(*np.diff(made.ego.poses[:, :2], axis=0).T)
    assert found.off_road and found.score == pytest.approx(1 - driven_m[20:].sum() / driven_m.sum())
    assert not judged(scene(y_m=-3.0)).off_road


def test_wrong_way_needs_the_opposite_lane_for_a_second():
    found = judged(scene(y_m=2.0))
    assert found.wrong_way and found.score == pytest.approx(0.0)
    short = judged(scene(y_m=np.where(np.arange(STEPS) < 8, 2.0, -2.0)))
    assert not short.wrong_way and short.score == 1.0
    assert judged(scene(heading_rad=np.pi, lanes=(EAST,))).wrong_way
    unknown = replace(EAST, width_m=None)
    assert not judged(scene(heading_rad=np.pi, lanes=(unknown,))).wrong_way  # nobody knows where that lane ends


def test_too_slow_and_progress():
    found = judged(scene(speed_mps=4.0))
    assert found.too_slow and found.progress == pytest.approx(0.4) and found.score == pytest.approx(0.7)
    assert not judged(scene(speed_mps=6.0)).too_slow
    waiting = judged(scene(speed_mps=0.0), reference_m=0.5)
    assert waiting.progress == 1.0 and waiting.score == 1.0
    crashed = judged(scene(speed_mps=4.0), contact=Contact(kind="vehicle", track_index=0))
    assert not crashed.too_slow and crashed.score == pytest.approx(0.6)


def test_score_is_the_product():
    y_m = np.where(np.arange(STEPS) <= 30, -2.0, -9.0)
    made = scene(y_m=y_m, light=LightState.RED)
    found = judged(made, contact=Contact(kind="static", track_index=None))
    driven_m = np.hypot(*np.diff(made.ego.poses[:, :2], axis=0).T)
    assert found.score == pytest.approx(0.65 * 0.7 * (1 - driven_m[30:].sum() / driven_m.sum()))


def test_off_road_needs_two_corners():
    poses = np.array([[0.0, -2.0, 0.0], [0.0, -3.4, 0.0], [0.0, -2.2, 0.4]])
    np.testing.assert_array_equal(
        off_road(box_corners(poses, 4.6, 1.9), RoadMap(lanes=(), surfaces=ROADS)), [False, True, False]
    )


coordinate = st.floats(-6, 6)
angle = st.floats(-np.pi, np.pi)
poses = st.tuples(coordinate, coordinate, angle).map(np.array)
sizes = st.tuples(st.floats(0.3, 8), st.floats(0.3, 3))


@given(poses, sizes, poses, sizes, poses)
def test_overlap_is_symmetric_and_does_not_depend_on_the_frame(pose_a, size_a, pose_b, size_b, frame):
    a, b = box_corners(pose_a, *size_a), box_corners(pose_b, *size_b)
    overlap = bool(boxes_overlap(a, b))
    assert overlap == bool(boxes_overlap(b, a))
    # Away from mere touching, which rounding may decide either way, the frame makes no difference.
    grown, shrunk = (box_corners(pose_b, size_b[0] * f, size_b[1] * f) for f in (1 + 1e-6, 1 - 1e-6))
    if bool(boxes_overlap(a, grown)) == bool(boxes_overlap(a, shrunk)):
        moved = (box_corners(from_frame(p, frame), *s) for p, s in ((pose_a, size_a), (pose_b, size_b)))
        assert bool(boxes_overlap(*moved)) == overlap


@given(poses, sizes, poses, sizes)
def test_overlap_is_certain_where_discs_decide(pose_a, size_a, pose_b, size_b):
    overlap = bool(boxes_overlap(box_corners(pose_a, *size_a), box_corners(pose_b, *size_b)))
    distance_m = np.hypot(*(pose_a[:2] - pose_b[:2]))
    if distance_m <= (min(size_a) + min(size_b)) / 2:  # discs inside the boxes meet
        assert overlap
    if distance_m > (np.hypot(*size_a) + np.hypot(*size_b)) / 2 + 1e-9:  # discs around them do not
        assert not overlap
