"""Checks of waypoints that people or importers bring: units, sign conventions, and plain damage."""

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resim.datatypes.clip import NUM_WAYPOINTS, WAYPOINT_DT_S
from resim.datatypes.geometry import wrap_angle

MAX_SPEED_MPS = 60.0
MIN_MOVE_M = 0.5  # a shorter step between waypoints says nothing about the direction of motion
MAX_SLIP_RAD = float(np.deg2rad(20.0))  # heading against direction of motion, at the rear axle of a car that grips
SIGN_RAD = float(np.deg2rad(4.0))  # below this, heading and direction of motion may well differ in sign


def validate_waypoints(waypoints: ArrayLike, *, what: str) -> NDArray[np.float32]:
    """``waypoints`` as float32 (8, 3) [x_m, y_m, heading_rad] when they can be a car's path; ``what`` names them.

    Raises ValueError, one line with the value and the fix: wrong shape, NaN, centimetres (faster than 60 m/s), degrees
    (beyond pi, or a heading that fits the motion only as degrees), y to the right (heading turns against the motion).
    Driving backwards is allowed.
    """
    path = np.asarray(waypoints, dtype=np.float32)
    if path.shape != (NUM_WAYPOINTS, 3):
        raise ValueError(
            f"{what}: waypoints have shape {path.shape}; needed are {NUM_WAYPOINTS} rows [x_m, y_m, heading_rad], "
            f"at {WAYPOINT_DT_S}, {2 * WAYPOINT_DT_S} .. {NUM_WAYPOINTS * WAYPOINT_DT_S} s"
        )
    if not np.isfinite(path).all():
        row, column = np.argwhere(~np.isfinite(path))[0]
        raise ValueError(f"{what}: waypoint {row} column {column} is {path[row, column]}; every value must be finite")
    steps_m = np.diff(path[:, :2], axis=0, prepend=0.0)
    lengths_m = np.linalg.norm(steps_m, axis=1)
    fastest = int(np.argmax(lengths_m))
    speed_mps = lengths_m[fastest] / WAYPOINT_DT_S
    if speed_mps > MAX_SPEED_MPS:
        raise ValueError(
            f"{what}: {speed_mps:.0f} m/s up to waypoint {fastest} (at most {MAX_SPEED_MPS:.0f}); "
            "give metres (not centimetres), relative to the rear axle at t = 0"
        )
    largest = int(np.argmax(np.abs(path[:, 2])))
    if abs(path[largest, 2]) > np.pi + 1e-4:
        raise ValueError(
            f"{what}: heading {path[largest, 2]:.2f} of waypoint {largest} is beyond pi; "
            "give radians (not degrees) in (-pi, pi]"
        )
    _check_heading_against_motion(path, steps_m, lengths_m, what)
    return path


def _slip_rad(
    heading_rad: NDArray[np.floating], steps_m: NDArray[np.floating], moved: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Mean heading over each step that moved (from 0 at t = 0), and direction of motion relative to it."""
    unwrapped_rad = np.unwrap(np.concatenate([[0.0], heading_rad]))
    mean_rad = ((unwrapped_rad[1:] + unwrapped_rad[:-1]) / 2)[moved]
    direction_rad = np.arctan2(steps_m[moved, 1], steps_m[moved, 0])
    slip_rad = wrap_angle(direction_rad - mean_rad)
    backwards = np.abs(slip_rad) > np.pi / 2
    return mean_rad, np.where(backwards, wrap_angle(slip_rad + np.pi), slip_rad)


def _check_heading_against_motion(
    path: NDArray[np.float32], steps_m: NDArray[np.floating], lengths_m: NDArray[np.floating], what: str
) -> None:
    moved = lengths_m > MIN_MOVE_M
    if not moved.any():
        return
    mean_rad, slip_rad = _slip_rad(path[:, 2], steps_m, moved)
    direction_rad = mean_rad + slip_rad
    opposite = (mean_rad * direction_rad < 0) & (np.minimum(abs(mean_rad), abs(direction_rad)) > SIGN_RAD)
    slips = np.abs(slip_rad) > MAX_SLIP_RAD
    if not opposite.any() and not slips.any():
        return
    worst = int(np.argmax(np.where(opposite | slips, np.abs(slip_rad), 0.0)))
    values = (
        f"{what}: on the way to waypoint {np.flatnonzero(moved)[worst]} the car moves towards "
        f"{np.rad2deg(direction_rad[worst]):.0f} degrees but its heading is {np.rad2deg(mean_rad[worst]):.0f} degrees"
    )
    as_degrees = np.abs(_slip_rad(np.deg2rad(path[:, 2]), steps_m, moved)[1]).max()
    mirrored = np.abs(_slip_rad(-path[:, 2], steps_m, moved)[1]).max()
    if mirrored <= MAX_SLIP_RAD and mirrored < as_degrees:
        raise ValueError(f"{values}: is y to the right? give y to the left and heading counter-clockwise")
    if as_degrees <= MAX_SLIP_RAD:
        raise ValueError(f"{values}: are headings in degrees? give radians")
    raise ValueError(f"{values}: give the heading of the car's body in radians, counter-clockwise, with y to the left")


def load_waypoints(path: Path | str) -> NDArray[np.float32]:
    """Waypoints (8, 3) from a file: JSON or CSV of 8 rows [x_m, y_m, heading_rad].

    JSON is a list of rows or {"waypoints": rows}; CSV may begin with the header x_m,y_m,heading_rad.
    Raises FileNotFoundError, and ValueError as :func:`validate_waypoints` or for a file that is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such waypoint file")
    if path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"{path}: waypoints are read from .json or .csv, not {path.suffix!r}")
    try:
        rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
        waypoints = np.asarray(rows, dtype=np.float32)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not {NUM_WAYPOINTS} rows [x_m, y_m, heading_rad] of numbers: {error}") from error
    return validate_waypoints(waypoints, what=str(path))


def _json_rows(path: Path) -> list[list[float]]:
    content = json.loads(path.read_text())
    return content["waypoints"] if isinstance(content, dict) else content


def _csv_rows(path: Path) -> list[list[float]]:
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and [cell.strip() for cell in rows[0]] == ["x_m", "y_m", "heading_rad"]:
        rows = rows[1:]
    return [[float(cell) for cell in row] for row in rows]
