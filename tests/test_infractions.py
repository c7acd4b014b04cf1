"""Each infraction in a scene made by hand, the score as their product, and the geometry below them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resim.datatypes.boxes import box_corners, boxes_overlap
from resim.datatypes.geometry import from_frame
from resim.datatypes.scene import Lane, LightState, Scene, Track, TrackKind, TrafficLight
from resim.simulation.infractions import Contact, judge, off_road

STEPS = 41
ROAD = np.array([[-20.0, -4.0], [200.0, -4.0], [200.0, 4.0], [-20.0, 4.0]])
LINE = np.stack([np.arange(-20.0, 200.0, 2.0), np.zeros(110)], -1)
EAST = Lane(lane_id=0, centerline_m=LINE + [0, -2], width_m=4.0, speed_limit_mps=14.0)
WEST = Lane(lane_id=1, centerline_m=(LINE + [0, 2])[::-1], width_m=4.0, speed_limit_mps=14.0)


def light(states):
    return TrafficLight(
        lane_ids=(0,),
        stop_line_m=np.array([[20.0, -4.0], [20.0, 0.0]]),
        position_m=np.array([30.0, -5.0, 4.5]),
        heading_rad=0.0,
        states=np.full(STEPS, states, np.int8),
    )


def scene(y_m=-2.0, speed_mps=10.0, heading_rad=0.0, lights=()):
    """The ego drives along +x at ``y_m`` from x = 0 at a steady speed."""
    x_m = speed_mps * 0.1 * np.arange(STEPS) * np.cos(heading_rad)
    poses = np.stack([x_m, np.broadcast_to(y_m, STEPS), np.full(STEPS, heading_rad)], -1)
    ego = Track(
        track_id=0, kind=TrackKind.VEHICLE, length_m=4.6, width_m=1.9, height_m=1.5, poses=poses,
        speed_mps=np.full(STEPS, speed_mps), valid=np.ones(STEPS, bool),
    )  # fmt: skip
    return Scene(
        scene_id="by-hand", dt_s=0.1, lanes=(EAST, WEST), road_edges=(), drivable=(ROAD,), road_lines=(), crosswalks=(),
        lights=lights, tracks=(ego,), ego_index=0,
    )  # fmt: skip


def judged(made, contact=None, reference_m=40.0):
    return judge(made, first_step=0, contact=contact, reference_m=reference_m)


def test_a_clean_drive_scores_one():
    found = judged(scene(lights=(light(LightState.GREEN),)))
    assert found.score == 1.0 and found.progress == pytest.approx(1.0)
    assert not (found.collision or found.off_road or found.red_light or found.wrong_way or found.too_slow)


@pytest.mark.parametrize(("kind", "factor"), [("pedestrian", 0.50), ("vehicle", 0.60), ("static", 0.65)])
def test_collision_factors(kind, factor):
    found = judged(scene(), contact=Contact(kind=kind, track_index=None))
    assert found.collision and found.score == pytest.approx(factor)


def test_red_light():
    found = judged(scene(lights=(light(LightState.RED),)))
    assert found.red_light and found.score == pytest.approx(0.7)
    for state in (LightState.YELLOW, LightState.UNKNOWN):
        assert not judged(scene(lights=(light(state),))).red_light
    assert not judged(scene(y_m=2.0, lights=(light(LightState.RED),))).red_light  # beside the stop line
    assert not judged(scene(speed_mps=3.0, lights=(light(LightState.RED),))).red_light  # stays before it


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
    turned = scene(heading_rad=np.pi)
    assert judged(replace(turned, lanes=(EAST,))).wrong_way


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
    made = scene(y_m=y_m, lights=(light(LightState.RED),))
    found = judged(made, contact=Contact(kind="static", track_index=None))
    driven_m = np.hypot(*np.diff(made.ego.poses[:, :2], axis=0).T)
    assert found.score == pytest.approx(0.65 * 0.7 * (1 - driven_m[30:].sum() / driven_m.sum()))


def test_off_road_needs_two_corners():
    poses = np.array([[0.0, -2.0, 0.0], [0.0, -3.4, 0.0], [0.0, -2.2, 0.4]])
    np.testing.assert_array_equal(off_road(box_corners(poses, 4.6, 1.9), (ROAD,)), [False, True, False])


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
