"""The lots of models that a run trains, in a file each: an interrupted run goes on with what is there."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gradwire.errors import GradwireError
from gradwire.progress import Progress
from gradwire.studies import workers
from gradwire.studies.membership.settings import MembershipSettings
from gradwire.studies.membership.shadow import Record, train_batch
from gradwire.studies.membership.shadow_experiment import ground

FOLDER = "shadows"


def train_shadows(settings: MembershipSettings, out: Path, scheme: int, jobs: int, progress: Progress) -> None:
    """Train the models of one of the schemes that are not there yet; a lot is there when its file is.

    Args:
        out: the folder of the run.
        jobs: lots at a time, each in a process of its own with one thread; 1 trains in this one.
    """
    lots = _lots(settings, scheme)
    waiting = [lot for lot in lots if not _path(out, scheme, lot).exists()]
    done, total = settings.shadows * scheme, settings.shadows * len(settings.schemes)
    done += settings.shadows - sum(map(len, waiting))
    (out / FOLDER).mkdir(exist_ok=True)
    progress("shadows", done, total)
    for lot in _trained(settings, out, scheme, waiting, jobs):
        done += len(lot)
        progress("shadows", done, total)


def load_shadows(settings: MembershipSettings, out: Path, scheme: int) -> list[Record]:
    """The records of one scheme's models, in order.

    Raises:
        GradwireError: a file that cannot be read.
    """
    found: list[Record] = []
    for lot in _lots(settings, scheme):
        path = _path(out, scheme, lot)
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise GradwireError(f"{path} cannot be read: {error}; without it, its models are trained again") from None
        for model in lot:
            start = f"{model}/"
            found.append({name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)})
    return found


def _lots(settings: MembershipSettings, scheme: int) -> list[range]:
    size = ground(settings).lot(settings.schemes[scheme])
    return [range(start, min(start + size, settings.shadows)) for start in range(0, settings.shadows, size)]


def _path(out: Path, scheme: int, lot: range) -> Path:
    return out / FOLDER / f"{scheme:02d}-{lot[0]:04d}.safetensors"


def _trained(settings: MembershipSettings, out: Path, scheme: int, lots: Sequence[range], jobs: int) -> Iterator[range]:
    if jobs == 1 or len(lots) < 2:
        for lot in lots:
            yield _train(settings, out, scheme, lot)
        return
    with workers.pool(jobs) as pool:
        for task in as_completed([pool.submit(_train, settings, out, scheme, lot) for lot in lots]):
            yield task.result()


def _train(settings: MembershipSettings, out: Path, scheme: int, lot: range) -> range:
    """Train a lot and write its file, which gets its name when it is complete."""
    records = train_batch(ground(settings), settings.schemes[scheme], lot)
    tensors = {
        f"{m}/{name}": t.contiguous() for m, record in zip(lot, records, strict=True) for name, t in record.items()
    }
    path = _path(out, scheme, lot)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    os.replace(temporary, path)
    return lot
