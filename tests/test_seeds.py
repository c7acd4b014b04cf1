"""Every purpose has scenes of its own, and what draws scenes stays inside them."""

import sys
from itertools import combinations
from pathlib import Path

import pytest

from resim.datatypes.geometry import simulation_camera
from resim.datatypes.seeds import Seeds, seeds_from
from resim.gates.measure import GateConfig
from resim.gates.scenes import draw_scenes

REPOSITORY = Path(__file__).resolve().parent.parent


def test_no_two_purposes_share_a_scene():
    for one, other in combinations(Seeds, 2):
        assert one.value.stop <= other.value.start or other.value.stop <= one.value.start, (one, other)
    assert len(Seeds) == len(Seeds.__members__)  # an equal range would be an alias of the first


def test_the_numbers_that_published_figures_came_from():
    """A changed range would measure and train on other scenes than the docs say."""
    assert (Seeds.HELD_OUT.first, Seeds.HELD_OUT_SIMPLE.first) == (1_000_000, 1_100_000)
    assert (Seeds.GATES.first, Seeds.SELECTION.first) == (3_000_000, 3_200_000)
    assert (Seeds.DEMO_VIDEO.first, Seeds.DEMO_GATES.first, Seeds.DEMO_SELECTION.first) == (
        2_000_000,
        2_050_000,
        2_250_000,
    )
    assert (Seeds.CLOSED_LOOP.first, Seeds.ABLATIONS.first, Seeds.BENCHMARKS.first) == (3_500_000, 3_700_000, 6_000_000)


def test_seeds_end_where_another_purpose_begins():
    last = Seeds.TRAINING_SIMPLE_MORE.value.stop - 1
    assert list(seeds_from(last, 1)) == [last] == list(seeds_from(last))
    with pytest.raises(ValueError, match=f"2 scenes from seed {last} on: 1 are left in TRAINING_SIMPLE_MORE of"):
        seeds_from(last, 2)
    assert len(seeds_from(600_000, 5)) == 5  # nobody's, up to the next range
    with pytest.raises(ValueError, match="400000 are left in no range"):
        seeds_from(600_000, 400_001)
    with pytest.raises(ValueError, match="seed -1"):
        seeds_from(-1, 1)
    with pytest.raises(ValueError, match="0 are left in no range"):
        seeds_from(2**40, 1)


def stores_of(script: str, monkeypatch, call) -> dict[str, tuple[int, int]]:
    """First seed and number of scenes of every store that a script simulates."""
    monkeypatch.syspath_prepend(str(REPOSITORY / Path(script).parent))
    module = __import__(Path(script).stem)
    found = {}

    def record(*words: object) -> None:
        words = [str(word) for word in words]
        if "--seed" not in words:  # another command
            return
        value = {name: words[words.index(name) + 1] for name in ("--output_dir", "--num_clips", "--seed")}
        a_scene = int(words[words.index("--drivers_per_scene") + 1]) if "--drivers_per_scene" in words else 1
        found[Path(value["--output_dir"]).name] = (int(value["--seed"]), -(-int(value["--num_clips"]) // a_scene))

    monkeypatch.setattr(module, "python" if script.startswith("train") else "run_command", record)
    call(module)
    monkeypatch.delitem(sys.modules, Path(script).stem)
    return found


def make_tiny(module):
    module.simulate(module.TinyArgs(work_dir=Path("/nowhere")))


def demo(module):
    module.simulate(Path("/nowhere"), module.DemoArgs(), 64, 112)


@pytest.mark.parametrize(("script", "call"), [("train/make_tiny.py", make_tiny), ("eval/demo.py", demo)])
def test_scripts_simulate_inside_their_ranges(script, call, monkeypatch):
    stores = stores_of(script, monkeypatch, call)
    assert len(stores) == (12 if script.startswith("train") else 4)
    firsts = {purpose.first for purpose in Seeds}
    assert {first for first, _ in stores.values()} <= firsts
    assert len({first for first, _ in stores.values()}) == len(stores)
    for first, number in stores.values():
        assert len(seeds_from(first, number)) == number


def test_gates_and_selection_draw_inside_theirs():
    config = GateConfig()
    assert len(seeds_from(config.first_selection_seed, config.num_selection_scenes)) == config.num_selection_scenes
    assert config.first_seed in Seeds.GATES.value
    last = Seeds.GATES.value.stop - 1
    with pytest.raises(ValueError, match=f"scenes with three paths apart from seed {last} on, not 2"):
        draw_scenes(last, 2, simulation_camera(32, 56), simple=True)
