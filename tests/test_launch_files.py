"""The files in training/accelerate are what Accelerate and SLURM take; no run on several GPUs is tested here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

FOLDER = Path(__file__).resolve().parents[1] / "training/accelerate"
FILES = {
    "one_gpu": (DistributedType.NO, 1, 1),
    "eight_gpus": (DistributedType.MULTI_GPU, 8, 1),
    "eight_gpus_fsdp": (DistributedType.FSDP, 8, 1),
    "nodes": (DistributedType.MULTI_GPU, 32, 4),
}
SCRIPT = "training/train.py"


def launched(name, *arguments):
    """Arguments and environment with which `accelerate launch` would start the processes."""
    chosen = ["--config_file", str(FOLDER / f"{name}.yaml"), *arguments, SCRIPT, "--config", "run.toml"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(chosen))
    return arguments, prepare_multi_gpu_env(arguments)


def test_every_file_is_known_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_the_file_and_its_first_lines_say_how_it_is_used(name):
    path = FOLDER / f"{name}.yaml"
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_processes, config.num_machines) == FILES[name]
    head = path.read_text().splitlines()[:3]
    assert [line.startswith("#") for line in head] == [True, True, False]
    assert f"accelerate launch --config_file training/accelerate/{name}.yaml" in head[1]


@pytest.mark.parametrize("name", ["eight_gpus", "eight_gpus_fsdp"])
def test_one_machine_starts_eight_processes_and_only_fsdp_asks_for_shards(name):
    arguments, variables = launched(name)
    assert (arguments.nproc_per_node, arguments.training_script) == ("8", SCRIPT)
    asked = {key: variables.get(key) for key in ("ACCELERATE_USE_FSDP", "FSDP_VERSION")}  # as `sharding_wanted` reads
    assert asked == ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} if "fsdp" in name else dict.fromkeys(asked))


def test_nodes_meet_at_the_first():
    arguments, _ = launched("nodes", "--machine_rank", "2", "--main_process_ip", "10.0.0.7")
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("4", "8", 2)
    assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.7:29500")


@pytest.mark.skipif(os.name == "nt", reason="SLURM runs on Linux")
def test_slurm_script_starts_one_launcher_per_node_and_passes_arguments_on(tmp_path):
    tools = {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'shift; SLURM_NODEID=1 "$@"',
        "launcher": 'printf "%s\\n" "$@"',
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4"}
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ACCELERATE": str(tmp_path / "launcher"), **slurm}
    command = ["bash", str(FOLDER / "slurm.sh"), "my run.toml", "--set", "run.name=two words"]
    outcome = subprocess.run(
        command, env=variables, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path
    )
    assert outcome.stdout.splitlines() == [
        "launch", "--config_file", "training/accelerate/nodes.yaml", "--num_machines", "2", "--num_processes", "8",
        "--machine_rank", "1", "--main_process_ip", "node-a", SCRIPT, "--config", "my run.toml", "--set",
        "run.name=two words",
    ]  # fmt: skip
    assert "usage" in subprocess.run(command[:2], env=variables, capture_output=True, text=True, check=False).stderr
