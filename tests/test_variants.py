"""Variants of a run: trained, measured and compared, each once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scenetok_core.configs import RaeConfig, from_dict
from training import variants as variants_module
from training.config import read_settings
from training.tasks import load_config
from training.variants import Variant, Variants, as_table, main, train_and_measure

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "training" / "configs" / "variants"
FILES = sorted(FOLDER.glob("*.toml"))
TWO = Variants(
    "training/configs/rae_tiny.toml",
    (Variant("16 tokens", ("model.tokens=16",)), Variant("as it is")),
    ("run.steps=7", "run.minutes=none"),
    scenes=3,
)


def read(path):
    return from_dict(Variants, read_settings(path))


def load_variants(path, out):
    chosen = read(path)
    return [load_config(ROOT / chosen.base, chosen.settings(variant, out)) for variant in chosen.variants]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_committed_variants_load_and_differ(path, tmp_path):
    configs = load_variants(path, tmp_path)
    assert len({config.run.name for config in configs}) == len(configs) >= 5
    assert {config.run.output for config in configs} == {str(tmp_path)}
    assert len({(config.model, config.task) for config in configs}) == len(configs)
    assert len({(config.run.steps, config.run.minutes, config.optim, config.data) for config in configs}) == 1


def test_variants_of_sizes_differ_in_sizes_alone(tmp_path):
    configs = load_variants(FOLDER / "rae_sizes.toml", tmp_path)
    models = {config.model for config in configs}
    assert len(models) == len(configs) and all(isinstance(model, RaeConfig) for model in models)
    assert len({config.task for config in configs}) == 1


class Scripts:
    """Scripts that write what the real ones write, and note how they were called."""

    def __init__(self):
        self.called, self.status, self.last_step = [], 0, 7

    def __call__(self, arguments):
        self.called.append(list(arguments))
        if self.status:
            return self.status
        if arguments[0] == "train.py":
            folder = Path(setting(arguments, "run.output")) / setting(arguments, "run.name")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "training_log.jsonl").write_text(json.dumps({"step": self.last_step, "minutes": 1.0}))
        if arguments[0] == "evaluate.py":
            tokens = 16 if "16_tokens" in arguments[arguments.index("--checkpoint") + 1] else 64
            target = Path(arguments[arguments.index("--json") + 1])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(figures(tokens)))
        return 0


def setting(arguments, name):
    return next(json.loads(text.partition("=")[2]) for text in arguments if text.startswith(f"{name}="))


def figures(tokens):
    keys = ("psnr", "ssim", "gradient_energy", "pose_error_degrees")
    return {
        "protocol_fingerprint": "same", "parameters": 1234567, "tokens_kib": tokens * 192 * 2 / 1024,
        **{f"posterior_mean_{key}": 1.5 for key in keys}, "seconds_per_frame_posterior_mean": 0.0123,
    }  # fmt: skip


def test_each_variant_is_trained_measured_and_told_once(tmp_path):
    run = Scripts()
    found = train_and_measure(TWO, tmp_path, run)
    assert [call[0] for call in run.called] == ["train.py", "evaluate.py"] * 2
    first, measured, *_ = run.called
    assert {"model.tokens=16", "run.steps=7", 'run.name="16_tokens"'} < set(first)
    assert measured[measured.index("--scenes") + 1] == "3"
    assert measured[measured.index("--checkpoint") + 1] == str(tmp_path / "16_tokens" / "model.safetensors")
    table = as_table(found)
    assert "| 16 tokens | 1,234,567 | 6.0 | 1.50 | 1.500 | 1.50 | 1.5 | 12.3 |" in table
    (tmp_path / "as_it_is" / "figures.json").unlink()
    run.called.clear()
    assert as_table(train_and_measure(TWO, tmp_path, run)) == table
    assert len(run.called) == 2 and 'run.name="as_it_is"' in run.called[0], "what was measured stays"


def test_what_was_measured_with_other_settings_is_measured_again(tmp_path):
    run = Scripts()
    train_and_measure(TWO, tmp_path, run)
    run.called.clear()
    more = replace(TWO, scenes=5, variants=(TWO.variants[0], Variant("as it is", ("run.log_every=3",))))
    train_and_measure(more, tmp_path, run)
    assert [call[0] for call in run.called] == ["train.py", "evaluate.py"] * 2
    run.called.clear()
    train_and_measure(replace(more, variants=(more.variants[0], TWO.variants[1])), tmp_path, run)
    assert ['run.name="as_it_is"' in call for call in run.called] == [True, False]


def test_a_run_that_was_stopped_is_not_measured(tmp_path):
    run = Scripts()
    run.last_step = 5
    with pytest.raises(ValueError, match=r"variant '16 tokens' was stopped at step 5 of 7; the same command goes on"):
        train_and_measure(TWO, tmp_path, run)
    assert [call[0] for call in run.called] == ["train.py"]


def test_what_was_measured_of_some_alone_is_no_column():
    some, other = figures(16), {**figures(64), "sample_psnr": 2.5}
    assert "sample" not in as_table({"a": some, "b": other})
    assert "| b | 1,234,567 | 24.0 | 1.50 | 2.50 |" in as_table({"b": other})


def test_a_step_that_fails_and_settings_that_do_not_fit_are_told(tmp_path):
    run = Scripts()
    run.status = 3
    with pytest.raises(ValueError, match=r"train\.py of variant '16 tokens' ended with status 3"):
        train_and_measure(TWO, tmp_path, run)
    run.called.clear()
    wrong = Variants(TWO.base, (*TWO.variants, Variant("wrong", ("model.heads=5",))))
    with pytest.raises(ValueError, match="must divide by heads 5"):
        train_and_measure(wrong, tmp_path, run)
    assert run.called == [], "before any work"


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ('base = "x"\nvariants = []', "must be one or more, got 0 and 24"),
        ('base = "x"\n[[variants]]\nname = "A-1"\n[[variants]]\nname = "a 1"', "must differ in letters and numbers"),
        ('base = "x"\nsurplus = 1\n[[variants]]\nname = "a"', "unknown setting surplus"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, capsys, monkeypatch, chosen, message):
    monkeypatch.setattr(variants_module, "_run_script", lambda _: pytest.fail("something was run"))
    path = tmp_path / "variants.toml"
    path.write_text(chosen)
    assert main([str(path), "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1
