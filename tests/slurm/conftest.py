"""A real SLURM cluster of one node: munged, slurmctld and slurmd from Debian's packages, without systemd."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.sweep.sweeps import ROOT

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MinJobAge=86400
KillWait=5
MessageTimeout=60
SlurmdParameters=config_overrides
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")


@dataclass
class Cluster:
    """The cluster and the environment in which its commands work."""

    environment: dict[str, str]

    def run(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            command, env=self.environment, cwd=folder, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def submit(self, folder: Path, *arguments: str) -> str:
        """The job's id; ``folder`` is where it starts."""
        return self.run("sbatch", "--parsable", *arguments, folder=folder)

    def jobs(self) -> dict[str, str]:
        """Each waiting or running job's state."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def at_once(self, job: str) -> bool:
        """Start a requeued job as soon as it safely can be, and say whether it was: SLURM lets it wait for two minutes.

        Those have a purpose: should its first batch script's end be reported after its second start, SLURM takes it for
        the second's, and the job is gone. The script's slurmstepd lives until its report is received. And a node
        takes a credential of the second in which it has revoked the job's last one for revoked too ("Killing
        non-startable batch": gone as well), so that the start has to lie in a later second.
        """
        if self.jobs().get(job) != "PENDING":
            return False
        number = self.run("squeue", "--noheader", "--array", "--format=%A", f"--jobs={job}")
        if f"slurmstepd: [{number}.batch]" in self.steps():
            return False
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")
        return True

    def steps(self) -> set[str]:
        """What this cluster's slurmstepd processes call themselves."""
        found, ours = set(), f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                name = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if name.startswith("slurmstepd:") and ours in (process / "environ").read_bytes().split(b"\0"):
                    found.add(name)
        return found

    @staticmethod
    def wait(condition, seconds: float = 240.0, logs: Path | None = None) -> None:
        """Until it holds; what the jobs have written to ``logs`` is shown if it never does."""
        end = time.monotonic() + seconds
        while not condition():
            said = [path.read_text()[-3000:] for path in logs.glob("slurm-*.out")] if logs else []
            assert time.monotonic() < end, "\n".join(["it takes too long", *said])
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs SLURM and root: {', '.join(missing) or 'not root'}")
    place = tmp_path_factory.mktemp("cluster")
    for name in ("state", "spool"):
        (place / name).mkdir()
    (place / "key").write_bytes(os.urandom(128))
    (place / "key").chmod(0o600)
    host = platform.node().split(".")[0]
    (place / "slurm.conf").write_text(CONFIG.format(host=host, place=place, ports=free_ports(2)))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    environment |= {"SLURM_CONF": str(place / "slurm.conf"), "PATH": path, "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    munged = ["munged", "--foreground", "--force", f"--key-file={place}/key", f"--socket={place}/munge.socket"]
    munged += [f"--{name}-file={place}/munge.{name}" for name in ("pid", "log", "seed")]
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            log = (place / f"{command[0]}.out").open("w")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            log.close()
            Cluster.wait((place / "munge.socket").exists)  # the other two take no answer from munged for an error
        found = Cluster(environment)
        found.wait(lambda: "idle" in _sinfo(environment))
        yield found
        subprocess.run(["scancel", "--user=root"], env=environment, check=False)
        found.wait(lambda: not found.jobs() and not found.steps())  # one whose controller has gone tells it for ever
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(timeout=60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _sinfo(environment: dict[str, str]) -> str:
    return subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
    ).stdout
