"""A throw-away Slurm: several nodes on this machine, their daemons children of the test process.

Everything it keeps lies in one folder; nothing outside is configured, and nothing is left when it is closed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

CPUS = 16  # of each pretended node
GPUS = 2
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")

# Two partitions, of which `urgent` takes nodes from `main`: a warned job has GraceTime to save what it has.
# No cgroups and no accounting, since neither can be had inside a container. A requeued job waits for its old
# credential to expire, two minutes by default.
SLURM_CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
SlurmctldTimeout=30
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
MailProg=/bin/true
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
PropagateResourceLimits=NONE
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
ReturnToService=1
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
NodeName=DEFAULT CPUs={cpus} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str | None:
    """What keeps a Slurm from being started here; None where nothing does."""
    missing = [program for program in NEEDED if not shutil.which(program, path=PATH)]
    if missing:
        return f"no Slurm here ({', '.join(missing)} not found): `make setup-slurm` installs it"
    if os.geteuid() != 0:
        return "the throw-away Slurm must be started as root"
    return None


class SlurmBox:
    """`with SlurmBox() as box: box.submit("--nodes=2", "job.sbatch")`."""

    def __init__(self, *, num_nodes: int = 2) -> None:
        in_memory = Path("/dev/shm")  # on a busy disk everything here takes many times longer
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir=in_memory if in_memory.is_dir() else None))
        self.folder.chmod(0o755)  # munge refuses a socket in a folder that is closed to others
        self.nodes = [f"node{number}" for number in range(1, num_nodes + 1)]
        self._ports = _free_ports(1 + num_nodes)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        # all nodes are this machine, and their names resolve nowhere
        self.env = os.environ | {
            "PATH": PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "MASTER_ADDR": "127.0.0.1",
        }

    def __enter__(self) -> SlurmBox:
        try:
            self._write_configuration()
            self._start_daemons()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if "slurmctld" in self._daemons:
            self.slurm("scancel", "--full", "--user=root", check=False)
            wait_until(lambda: not self.slurm("squeue", "--noheader", check=False), seconds=10, fails=False)
        for name in reversed(self._daemons.copy()):  # munge, which all others need, last
            self.kill(name, signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)

    def slurm(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        assert not (check and done.returncode), f"{command}: {done.stderr}"
        return done.stdout.strip()

    def submit(self, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
        """Job id of `sbatch ARGUMENTS`, submitted in the folder `cwd`."""
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments],
            cwd=cwd,
            env=self.env | (env or {}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """What Slurm knows of a job, by the names of `scontrol show job`."""
        lines = self.slurm("scontrol", "show", "job", "--oneliner", job_id).splitlines()
        return dict(field.split("=", 1) for field in lines[0].split() if "=" in field)

    def wait(self, job_id: str, *states: str, seconds: float) -> dict[str, str]:
        """The job once it is in one of the states; by default once it has ended for good."""
        wanted = states or ENDED
        wait_until(
            lambda: self.job(job_id)["JobState"] in wanted,
            seconds=seconds,
            what=lambda: f"job {job_id} {'|'.join(wanted)}: {self.job(job_id)}",
        )
        return self.job(job_id)

    def has_ended(self, job_id: str) -> bool:
        return self.job(job_id)["JobState"] in ENDED

    def start_node(self, name: str) -> None:
        self._start(name, "slurmd", "-D", "-N", name)

    def wait_for_nodes(self) -> None:
        """Until all are idle; a daemon that has ended is started again, a node that is down called back."""

        def are_idle() -> bool:
            for name in self.nodes:
                if name not in self._daemons or self._daemons[name].poll() is not None:
                    self.start_node(name)
            if self._num_nodes("idle") == len(self.nodes):
                return True
            if self._num_nodes("down"):
                names = ",".join(self.nodes)
                self.slurm("scontrol", "update", f"NodeName={names}", "State=RESUME", check=False)
                time.sleep(1)
            return False

        wait_until(are_idle, seconds=90, what=self._all_nodes)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon: the loss of a node where it is a node's."""
        daemon = self._daemons.pop(name)
        daemon.send_signal(number)
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _num_nodes(self, state: str) -> int:
        said = self.slurm(
            "sinfo", "--noheader", "--partition=main", f"--states={state}", "--format=%D", check=False
        )
        return sum(int(count) for count in said.split() if count.isdigit())

    def _all_nodes(self) -> str:
        return self.slurm("sinfo", "--Node", "--long", check=False)

    def _write_configuration(self) -> None:
        host, folder = socket.gethostname().split(".")[0], self.folder
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
            for name, port in zip(self.nodes, self._ports[1:], strict=True)
        ]
        (folder / "slurm.conf").write_text(
            SLURM_CONF.format(
                host=host, port=self._ports[0], folder=folder, cpus=CPUS, gpus=GPUS, nodes="\n".join(nodes)
            )
        )
        for number in range(GPUS):  # only character devices with such names set CUDA_VISIBLE_DEVICES
            os.mknod(folder / f"nvidia{number}", 0o020666, os.makedev(1, 3))
        (folder / "gres.conf").write_text(
            f"AutoDetect=off\nName=gpu Flags=nvidia_gpu_env File={folder}/nvidia[0-{GPUS - 1}]\n"
        )
        for name in ("state", *(f"spool-{node}" for node in self.nodes)):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))

    def _start_daemons(self) -> None:
        files = {
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
            "key-file": "key",
        }
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        self._start("munged", "munged", "--foreground", *options)
        wait_until((self.folder / "munge.socket").exists, seconds=20)
        self._start("slurmctld", "slurmctld", "-D", "-c")
        # nodes that call before it listens try again seconds later
        wait_until(lambda: "is UP" in self.slurm("scontrol", "ping", check=False), seconds=30)
        for name in self.nodes:
            self.start_node(name)
        self.wait_for_nodes()

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until(
    met: Callable[[], bool], *, seconds: float, what: Callable[[], str] | None = None, fails: bool = True
) -> None:
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            assert not fails, f"not within {seconds} s: {what() if what else met}"
            return
        time.sleep(0.1)
