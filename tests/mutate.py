"""`make mutants`: each one-line fault of mutants.toml, put into the package while it is imported, must fail its tests.

A test that no fault can fail says nothing. A fault is caught where a test that is named beside it fails by what it
asserts, or by an error of gradwire's own; one that merely breaks the import is no fault. Each is tried in a process of
its own, forked from one that has loaded the libraries. Arguments are parts of files' names: `… tests.mutate secure/`.
"""

import ast
import os
import resource
import sys
import time
import tomllib
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gradwire"
LIMIT = 300
"""Seconds of a processor that a fault may take before it counts as hanging."""
LIBRARIES = ("torch", "numpy", "scipy.stats", "scipy.special", "pytest", "hypothesis", "sklearn.datasets", "pandas")
CAUGHT, SURVIVED, BROKEN = "caught", "survived", "broken"


@dataclass(frozen=True)
class Mutant:
    """A fault: in `file` below the package, `old` becomes `new`; the tests that must fail; and what it would do."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    @property
    def module(self) -> str:
        """The module that it is in."""
        return "gradwire." + self.file.removesuffix(".py").replace("/", ".")

    def source(self) -> str:
        """The file's text with the fault; ValueError unless the fragment stands there once, and Python reads it."""
        text = (SOURCE / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times; it must be there once")
        changed = text.replace(self.old, self.new)
        if ast.dump(ast.parse(changed)) == ast.dump(ast.parse(text)):
            raise ValueError(f"{self.file}: {self.new!r} changes nothing")
        return changed


def mutants() -> list[Mutant]:
    """All of them."""
    rows = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


class _Faulty(SourceFileLoader, MetaPathFinder):
    """Gives a module with its fault to whoever imports it."""

    def __init__(self, mutant: Mutant):
        super().__init__(mutant.module, str(SOURCE / mutant.file))
        self.text, self.loaded = mutant.source(), False

    def find_spec(self, name, path=None, target=None):
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname):
        self.loaded = True
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Watch:
    """Notes by what tests failed."""

    def __init__(self):
        self.ran, self.errors = 0, []

    def pytest_runtest_makereport(self, item, call):
        self.ran += call.when == "call"
        if call.excinfo is not None:
            self.errors += _leaves(call.excinfo.value)


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, or the one."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    return [error]


def tried(tests: tuple[str, ...], mutant: Mutant | None) -> str:
    """Run tests in this process, with the fault: what came of it, and why if the fault or its tests are at fault."""
    import pytest

    fault, watch = _Faulty(mutant) if mutant else None, _Watch()
    if fault:
        sys.meta_path.insert(0, fault)
    quiet = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
    status = pytest.main([*quiet, *(["-x"] if mutant else []), *tests], plugins=[watch])
    if fault and not fault.loaded:
        return f"{BROKEN}: {fault.name} was not imported"
    if status == pytest.ExitCode.OK and watch.ran:
        return SURVIVED
    if status != pytest.ExitCode.TESTS_FAILED:
        return f"{BROKEN}: pytest ended with {status!r}, and ran {watch.ran} tests"
    from gradwire.errors import GradwireError

    # What pytest.raises says, and what gradwire itself refuses, is asserted as well.
    if any(isinstance(error, AssertionError | pytest.fail.Exception | GradwireError) for error in watch.errors):
        return CAUGHT
    return f"{BROKEN}: {'; '.join(f'{type(error).__name__}: {error}' for error in watch.errors)[:300]}"


def _forked(tests: tuple[str, ...], mutant: Mutant | None) -> tuple[int, int]:
    """Try tests in a child: its number, and where its answer can be read."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        return child, reading
    os.close(reading)
    answer = BROKEN
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
        log = os.open(os.devnull if mutant else f"/proc/self/fd/{sys.stderr.fileno()}", os.O_WRONLY)
        os.dup2(log, 1), os.dup2(log, 2)
        answer = tried(tests, mutant)
    except BaseException as error:
        answer = f"{BROKEN}: {type(error).__name__}: {error}"
    finally:
        os.write(writing, answer.encode()[:4000])
        os._exit(0)
    raise AssertionError


def _answer(child: int, reading: int) -> str:
    """What a child says, once it has ended."""
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    return said or f"{BROKEN}: it took more than {LIMIT} seconds, or was killed"


def main(wanted: list[str]) -> int:
    """Try all faults, or those whose file holds one of these; print what came of each, and return an exit status."""
    chosen = [mutant for mutant in mutants() if not wanted or any(part in mutant.file for part in wanted)]
    for mutant in chosen:
        mutant.source()
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    for library in LIBRARIES:
        __import__(library)
    assert not any(name.partition(".")[0] == "gradwire" for name in sys.modules)
    began = time.perf_counter()
    if (said := _answer(*_forked(tuple(sorted({test for m in chosen for test in m.tests})), None))) != SURVIVED:
        print(f"without any fault the tests do not pass: {said}")
        return 1
    waiting, running, bad = list(enumerate(chosen)), {}, []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            number, mutant = waiting.pop(0)
            running[number] = (mutant, *_forked(mutant.tests, mutant))
        number = next(iter(running))
        mutant, child, reading = running.pop(number)
        said = _answer(child, reading)
        bad += [mutant] if said != CAUGHT else []
        print(f"{number + 1:3} {said}: {mutant.file}: {mutant.why}", flush=True)
    print(f"{len(chosen) - len(bad)} of {len(chosen)} faults caught in {time.perf_counter() - began:.0f} s")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
