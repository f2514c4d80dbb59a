"""Flower's two engines on loopback, started as anybody starts them: SuperLink, SuperNodes, `flwr run`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "flower-quickstart"
BIN = Path(sys.executable).parent
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Engine:
    """A SuperLink, and what asks it for runs.

    Attributes:
        nodes: names of SuperNodes → their processes.
    """

    def __init__(self, home, connection):
        self.home, self.port, self.nodes = Path(home), free_port(), {}
        self.env = os.environ | QUIET | {"FLWR_HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        config = f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "127.0.0.1:{self.port}"\n{connection}\n'
        (self.home / "config.toml").write_text(config)

    def start(self, stack, name, *command):
        """A process of Flower's, ended with all its children when the stack closes."""
        log = stack.enter_context((self.home / f"{name}.log").open("ab"))
        process = subprocess.Popen(
            [BIN / command[0], *map(str, command[1:])],
            env=self.env,
            cwd=self.home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(self.kill, process)
        return process

    @staticmethod
    def kill(process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def flwr(self, *arguments):
        """What `flwr … --format json` answers."""
        made = subprocess.run(
            [BIN / "flwr", *map(str, arguments), "--format", "json"],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        answer = json.loads(made.stdout[made.stdout.index("{") :] if "{" in made.stdout else "{}")
        assert answer.get("success"), f"{arguments}: {made.stdout}{made.stderr}"
        return answer

    def wait_until_up(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return self.flwr("list", "here")
            except (AssertionError, ValueError):
                time.sleep(0.5)
        raise AssertionError((self.home / "superlink.log").read_text()[-3000:])

    def run(self, app, **config):
        """Start a run; its id."""
        words = " ".join(f"{name.replace('_', '-')}={json.dumps(value)}" for name, value in config.items())
        return self.flwr("run", app, "here", "--run-config", words)["run-id"]

    def status(self, run):
        (found,) = self.flwr("list", "here", "--run-id", run)["runs"]
        return found["status"]

    def finished(self, run, seconds=150):
        """A run's status once it has one that is final."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (status := self.status(run)).startswith("finished"):
                return status
            time.sleep(4)
        return f"still {status} after {seconds} s"

    def said(self):
        """What all processes have logged."""
        return "".join(f"== {log.name}\n{log.read_text()[-4000:]}\n" for log in sorted(self.home.glob("*.log")))


@contextmanager
def simulation(home, nodes=3):
    """A SuperLink of the simulation engine."""
    resources = "options.backend.client-resources.num-cpus = 1\noptions.backend.init-args.num-cpus = 2"
    engine = Engine(home, f"insecure = true\noptions.num-supernodes = {nodes}\n{resources}")
    with ExitStack() as stack:
        where = ("--host", "127.0.0.1", "--port", engine.port)
        quiet = ("--insecure", "--simulation", "--disable-runtime-dependency-installation")
        engine.start(stack, "superlink", "flower-superlink", *quiet, *where)
        engine.wait_until_up()
        yield engine


@contextmanager
def deployment(home, nodes=3):
    """A SuperLink and SuperNodes under TLS, with certificates of their own and registered keys."""
    home = Path(home)
    certify(home)
    engine = Engine(home, f'root-certificates = "{home / "ca.pem"}"')
    with ExitStack() as stack:
        engine.start(
            stack,
            "superlink",
            "flower-superlink",
            *("--ssl-ca-certfile", home / "ca.pem", "--ssl-certfile", home / "server.pem"),
            *("--ssl-keyfile", home / "server.key", "--enable-supernode-auth"),
            *("--disable-runtime-dependency-installation", "--host", "127.0.0.1", "--port", engine.port),
        )
        engine.wait_until_up()
        engine.stack = stack
        for part in range(nodes):
            key(home / f"node{part}")
            engine.flwr("supernode", "register", home / f"node{part}.pub", "here")
            supernode(engine, part)
        end = time.monotonic() + 60
        while time.monotonic() < end and online(engine) < nodes:
            time.sleep(0.5)
        assert online(engine) == nodes, engine.said()
        yield engine


def supernode(engine, part):
    """Start a SuperNode, or start it again."""
    engine.nodes[part] = engine.start(
        engine.stack,
        f"node{part}",
        "flower-supernode",
        *("--root-certificates", engine.home / "ca.pem", "--superlink", f"127.0.0.1:{engine.port}"),
        *("--auth-supernode-private-key", engine.home / f"node{part}"),
        *("--node-config", f"partition-id={part}", "--host", "127.0.0.1", "--port", free_port()),
    )


def revive(engine, part, seconds=150):
    """Kill a SuperNode and start it again until it stays: a SuperLink lets it in once it has missed the dead one."""
    engine.kill(engine.nodes[part])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        supernode(engine, part)
        with suppress(subprocess.TimeoutExpired):
            engine.nodes[part].wait(10)
            continue
        return
    raise AssertionError(engine.said())


def online(engine):
    return sum(node["status"] == "online" for node in engine.flwr("supernode", "list", "here")["nodes"])


def certify(home):
    """A certificate authority, and a server's certificate for loopback, as PEM files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now, names = datetime.now(UTC), {}
    secrets = {name: ec.generate_private_key(ec.SECP384R1()) for name in ("ca", "server")}
    for name, secret in secrets.items():
        names[name] = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"gradwire test {name}")])
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        built = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["ca"])
            .public_key(secret.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(loopback), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(secret.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(secrets["ca"].public_key()), critical=False
            )
        )
        signed = built.sign(secrets["ca"], hashes.SHA384())
        (home / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private(home / f"{name}.key", secret)


def key(path):
    """A node's key pair, in the format of SSH."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = ec.generate_private_key(ec.SECP384R1())
    private(path, secret, ssh=True)
    public = secret.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public)


def private(path, secret, ssh=False):
    from cryptography.hazmat.primitives import serialization

    form = serialization.PrivateFormat.OpenSSH if ssh else serialization.PrivateFormat.PKCS8
    data = secret.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.touch(0o600)
    path.write_bytes(data)


def copied(folder, **changes):
    """The example, with one piece of a file replaced by another: file → (old, new)."""
    app = Path(folder) / "app"
    shutil.copytree(EXAMPLE, app)
    for name, (old, new) in changes.items():
        change(app, name, old, new)
    return app


def change(app, name, old, new):
    """Replace a piece of an app's file."""
    path = app / "quickstart" / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
