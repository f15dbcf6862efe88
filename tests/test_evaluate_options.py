"""Options of `training/evaluate.py`: told early where they are wrong, passed on where they are right."""

import json
from dataclasses import replace

import pytest

from scenetok_core.generation import SceneGenerator
from scenetok_core.pipeline import SceneTok
from tests import small
from tests.test_evaluate import PROTOCOL
from training.evaluate import main
from training.protocol import PROTOCOLS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "teapot"], "device 'teapot' is not usable"),
        (["--sheet", "sheet.mp4"], "--sheet must end in .png or .jpg or .webp"),
        (["--markdown", "file/report.md"], "file is no folder that takes new files"),
        (["--json", "."], "is a folder"),
        (["--scene-scale", "-1"], "scene scale must be 'auto', 'none' or a positive number, got -1.0"),
    ],
)
def test_bad_arguments_are_told_before_any_work(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(SceneTok, "load", lambda *_, **__: pytest.fail("the model is loaded first"))
    (tmp_path / "file").touch()
    assert main(["--config", "tiny", "--json", "figures.json", *options]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_autoencoders_are_looked_for_beside_each_checkpoint_and_in_the_folder_of_weights(tmp_path, capsys):
    model = small.checkpoint(tmp_path, context_autoencoder="va-vae")
    fine, generator = small.checkpoint(tmp_path, "fine.safetensors"), tmp_path / "generator"
    generator.mkdir()
    small.generator_checkpoint(generator, context_autoencoder="va-vae")
    options = ["--config", "tiny", "--json", str(tmp_path / "figures.json"), "--weights", "elsewhere", "--checkpoint"]
    assert main([*options, str(model)]) == 2
    assert f"put it into {tmp_path} or elsewhere" in capsys.readouterr().err
    assert main([*options, str(fine), "--generator", str(generator / "generator.safetensors")]) == 2
    assert f"put it into {generator} or elsewhere" in capsys.readouterr().err


def test_scenes_are_encoded_and_drawn_in_the_scale_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "test", replace(PROTOCOL, scenes=1))
    asked = set()

    def watch(owner, name):
        original = getattr(owner, name)

        def spy(*given, **options):
            asked.add((name, options["scale"]))
            return original(*given, **options)

        monkeypatch.setattr(owner, name, spy)

    watch(SceneTok, "encode")
    watch(SceneGenerator, "generate")
    target = tmp_path / "figures.json"
    files = ["--checkpoint", str(small.checkpoint(tmp_path)), "--generator", str(small.generator_checkpoint(tmp_path))]
    assert main(["--config", "test", "--json", str(target), *files, "--scene-scale", "none"]) == 0
    figures = json.loads(target.read_text())
    assert asked == {("encode", "none"), ("generate", "none")}
    assert figures["scene_scale"] == "none"
    assert "permutation_max_difference" in figures and "scale_100_max_difference" not in figures
    assert "scale_F_max_difference (needs --scene-scale auto" in figures["left_out"]
