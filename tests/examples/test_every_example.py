"""No example goes unrun: the ones without a test file of their own are run here."""

import importlib.util
import re

import pytest

from tests.examples.runs import ROOT, finish, succeed

EXAMPLES = ROOT / "examples"
DOCS = ROOT / "docs"
PRINTED = DOCS / "_static" / "examples"
TESTED_ELSEWHERE = {"digits.py": "test_digits.py", "quickstart.py": "test_readme.py"}
TESTED_HERE = {
    "embedding.py",
    "fit_peaks.py",
    "optimizers.py",
    "optuna_study.py",
    "preempted.py",
    "sweep.py",
    "torch_to_jax.py",
    "vision_transformer.py",
}


def test_every_example_has_a_test():
    found = {path.name for path in EXAMPLES.glob("*.py")}
    assert found == set(TESTED_ELSEWHERE) | TESTED_HERE
    for name in TESTED_ELSEWHERE.values():
        assert (ROOT / "tests" / "examples" / name).exists()


def test_every_example_has_a_page_with_what_it_prints():
    for path in EXAMPLES.glob("*.py"):
        page = DOCS / "examples" / f"{path.stem}.md"
        assert f"{{example}} {path.stem}\n" in page.read_text()
        kept = PRINTED / f"{path.stem}.txt"
        assert kept.exists(), f"python docs/run_examples.py {path.stem}"
        assert kept.read_text().startswith(f"$ python examples/{path.name}")


def masked(text):
    """The words of what an example prints, without its numbers and the rules of tables."""
    return re.sub(r"[-\d.,e+]+|[^\w\s]+", " ", text).split()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "preempted", "optuna_study"])
def test_a_page_shows_what_its_example_prints(name, tmp_path):
    spec = importlib.util.spec_from_file_location("runs", DOCS / "run_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = (PRINTED / f"{name}.txt").read_text()
    assert masked(module.run(name, tmp_path)) == masked(shown)


def test_the_embedding_learns_whatever_its_size():
    out = succeed(EXAMPLES / "embedding.py", "--rows", 3000, 300_000, "--steps", 150)
    _, *rows = (line.split() for line in out.splitlines())
    assert [row[0] for row in rows] == ["3,000", "300,000"]
    for *_, first, last, _ in rows:
        assert float(first) == pytest.approx(0.693, abs=0.01)
        assert float(last) < 0.1


@pytest.mark.parametrize(
    ("only", "count"),
    [
        pytest.param((), 14, marks=pytest.mark.slow, id="all"),
        pytest.param(("--only", "sgd, momentum", "rprop", "muon"), 3, id="three"),
    ],
)
def test_the_sweep_draws_every_optimizer(only, count, tmp_path):
    out = succeed(EXAMPLES / "optimizers.py", "--steps", 5, *only, "--out", tmp_path)
    *lines, last = out.splitlines()
    assert last == f"picture: {tmp_path / 'optimizers.png'}"
    names = [line.partition(" best loss ")[0] for line in lines]
    assert len(names) == len(set(names)) == count
    pattern = r".+? +best loss \d+\.\d{4} at \S+   \(25 rates in [\d.]+ s\)"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert (tmp_path / "optimizers.png").read_bytes().startswith(b"\x89PNG")


def test_a_sweep_at_once_is_the_sweep_one_by_one(tmp_path):
    size = ("--rates", 4, "--epochs", 2, "--hidden", 8)
    out = succeed(EXAMPLES / "sweep.py", *size, "--compare", "--out", tmp_path)
    assert "8 runs of 88 steps at once: " in out
    # Rates up to 0.02; at 1 rounding is magnified.
    agree = re.search(r"agree to a part in a thousand: (\d) of 8$", out, re.MULTILINE)
    assert int(agree[1]) >= 6
    assert re.search(r"^one by one: [\d.]+ s, [\d.]+ times as long$", out, re.MULTILINE)
    assert re.search(r"^each compiled anew: \d+ s, going by 4 of them$", out, re.MULTILINE)
    losses = [float(loss) for loss in re.findall(r"(\d\.\d{4}) │", out)]
    assert len(losses) == 8
    assert losses == sorted(losses)
    assert losses[0] < 1
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert out.endswith(f"picture: {tmp_path / 'sweep.png'}\n")


def test_no_trial_of_a_study_compiles_anything_but_the_first():
    out = succeed(EXAMPLES / "optuna_study.py", "--trials", 12, "--epochs", 3)
    compiled = re.search(r"^programs compiled: (\d+) by the first trial, (\d+) by", out, re.M)
    assert compiled.groups() == ("1", "0")
    done = int(re.search(r"^(\d+) of 12 trials were trained to the end$", out, re.MULTILINE)[1])
    assert 5 <= done < 12, "the pruner has stopped some, none of the first five"
    best = [float(loss) for loss in re.findall(r"(\d\.\d{4}) │$", out, re.MULTILINE)]
    assert best == sorted(best)
    assert best[0] < 0.5


def test_a_run_that_is_stopped_goes_on_from_the_newest_whole_checkpoint(tmp_path):
    script, twice, once = EXAMPLES / "preempted.py", tmp_path / "twice", tmp_path / "once"
    out = succeed(script, "--steps", 60, "--stop-after", 47, "--out", twice)
    assert re.match(r"begins\nstopped after step 47\n(step_.*\n)*step_00000040.jopt .*\npar", out)
    (twice / "step_00000040.jopt").write_bytes(b"half a file")
    status, again, err = finish(script, "--steps", 60, "--out", twice)
    assert status == 0
    assert again.startswith("goes on from step_00000030.jopt\n")
    assert "step_00000040.jopt: this is no jopt checkpoint" in err
    whole = succeed(script, "--steps", 60, "--out", once)
    assert whole.splitlines()[-1] == again.splitlines()[-1]  # the parameters, bit for bit
    assert {p.name for p in once.iterdir()} == {p.name for p in twice.iterdir()}


def test_each_part_of_the_transformer_has_its_numbers():
    out = succeed(EXAMPLES / "vision_transformer.py", "--steps", 40, "--width", 8, "--depth", 2)
    table = re.findall(r"^  (\S+) +learning rate (\S+)   weight decay (\S+)$", out, re.MULTILINE)
    assert {name: (float(rate), float(decay)) for name, rate, decay in table} == {
        "default": (3e-4, 0),
        "kernels": (3e-4, 1e-2),
        "patches": (3e-5, 0),
        "kernels+patches": (3e-5, 1e-2),
        "head": (1e-3, 0),
        "kernels+head": (1e-3, 1e-2),
    }
    assert "\nfrozen: encoderblock_0\n" in out
    first, last = re.search(r"^loss (\S+) -> (\S+)$", out, re.MULTILINE).groups()
    assert float(last) < float(first)


@pytest.mark.parametrize(
    ("precision", "bound"),
    [pytest.param("float32", 1e-5, marks=pytest.mark.slow), ("float64", 1e-13)],
)
def test_what_torch_began_jopt_ends_as_torch_would_have(precision, bound, tmp_path):
    size = ("--steps", 40, "--batch-size", 16)
    script = EXAMPLES / "torch_to_jax.py"
    out = succeed(script, *size, "--precision", precision, "--out", tmp_path)
    assert out.startswith(
        "jopt goes on at step 20 with\n  jopt.adamw(learning_rate=jopt.schedules."
    )
    at_first, at_most = re.search(r"losses differ by (\S+) at .*, by (\S+) at most", out).groups()
    assert float(at_first) <= float(at_most) <= bound
    assert float(re.search(r"parameters differ by (\S+) of", out)[1]) <= bound
    assert {path.name for path in tmp_path.iterdir()} == {"half.pt", "torch_to_jax.png"}
    picture = (tmp_path / "torch_to_jax.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert out.endswith(f"picture: {tmp_path / 'torch_to_jax.png'}\n")


@pytest.mark.slow
def test_peaks_are_fitted_between_bounds(tmp_path):
    out = succeed(EXAMPLES / "fit_peaks.py", "--starts", 8, "--out", tmp_path)
    ends = r"^between bounds: (\d) of 8 starts end at the best fit, (\d) within the bounds; "
    lowest, within = map(int, re.search(ends, out, re.MULTILINE).groups())
    assert (lowest >= 1, within) == (True, 8)
    found, true = map(float, re.search(r"misfit (\S+), at the true parameters (\S+)", out).groups())
    assert found < true, "the best fit follows some of the noise"
    rows = re.findall(r"^(?:height|center|width|floor) +(\S.*)$", out, re.MULTILINE)
    for numbers in (list(map(float, row.split())) for row in rows):
        half = len(numbers) // 2
        assert numbers[:half] == pytest.approx(numbers[half:], abs=0.05)
    assert (tmp_path / "fit_peaks.png").read_bytes().startswith(b"\x89PNG")
