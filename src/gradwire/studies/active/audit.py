"""`gradwire audit --adversary active`: every lie against every masked scheme, beside the papers' protocol.

With `--against`, beside other software's secure sum as well: its own halves are told the same lies, and both it and
ours are examined (`secure.conformance`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from gradwire import data, spec_syntax
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent
from gradwire.report.rows import LIES_COLUMNS
from gradwire.runs import Row, RunFolder
from gradwire.schemes import parse
from gradwire.schemes.sga import SGA
from gradwire.secure import conformance
from gradwire.secure.conformance import Subject, examine
from gradwire.studies.active import lies
from gradwire.studies.active.imprint import imprint, loki
from gradwire.studies.active.lies import Gain, Lie
from gradwire.studies.active.scene import Scene
from gradwire.studies.active.subjects import FlowerSum, MaskedScheme
from gradwire.studies.audit_settings import DEFAULT_SCHEMES, AuditSettings

SUCCESS = 0.9
"""Correlation with the victim's own values from which a lie has succeeded."""
LIES: dict[str, tuple[Lie, str]] = {
    "none": (lies.nothing, "keeps to the protocol"),
    "split R_max": (lies.split_maximum, "tells the victim the true R_max, the others a huge one"),
    "split union": (lies.split_union, "tells the others another union"),
    "split survivors": (lies.split_survivors, "tells some that the victim is gone; colluders complete the shares"),
    "other models": (lies.other_models, "gives the others a model whose gradients vanish"),
    "LOKI": (loki, "an imprint layer that answers to the victim alone"),
    "imprint": (imprint, "the same imprint layer for all"),
    "false keys": (lies.false_keys, "passes on keys of its own as the peers'"),
    "shrunk neighbourhood": (lies.shrunk_neighbourhood, "passes on the colluders' keys alone"),
    "replay": (lies.replay, "says again what it said in an earlier round"),
}
"""Name → the lie, and what it is in a few words."""
USUAL = ("sga", "sga:threshold=T", "ssga:compression=20", "ssga:compression=20,threshold=T")


FLOWER = "flower-secaggplus"
"""Flower's SecAgg+, with parameters behind a colon as `integrations.flower.secaggplus.SecAggPlus` names them."""
Told = Mapping[str, tuple[Callable[[], Gain], str]]
"""Name of a lie → how to tell it, and what it is."""


def active_audit(
    settings: AuditSettings, out: str | Path | None = None, progress: Progress = silent, against: str = ""
) -> Path:
    """Run every lie against every scheme and return the folder that it wrote: results.csv, config.json.

    The schemes are those of the settings, or the usual ones; each runs as it is and, under the name with
    `binding=false`, by the papers' protocol.

    Args:
        against: other software, such as "flower-secaggplus:shares=5", which is told the same lies and examined.

    Raises:
        GradwireError: a scheme that is no secure sum, settings that cannot be met, or software that is not installed.
    """
    dataset = data.load(settings.data, settings.split).under(settings.loss)
    clients = settings.clients or 6
    colluders = clients // 3
    if clients < 3 or len(dataset) < clients * settings.batch:
        raise GradwireError(f"clients is {clients}; lies need 3 or more, and {clients * settings.batch} examples")
    settings = settings.of(dataset.task)
    model = dataset.network(settings.model, settings.seed, not settings.standardised).eval()
    batches = [dataset.batch(range(i * settings.batch, (i + 1) * settings.batch)) for i in range(clients)]
    schemes = list(_schemes(settings, clients, colluders))
    scenes = [Scene(scheme, model, dataset.task, batches, colluders, settings.seed) for scheme in schemes]
    work: list[Iterable[Row]] = [_lines(settings, each.scheme.spec, each, ours(each)) for each in scenes]
    if against:
        work += [_others(settings, against, scenes[0]), *(_examined(settings, scene) for scene in scenes)]
    run = RunFolder.create(out, "audit", LIES_COLUMNS)
    run.configure("lies", asdict(settings) | {"clients": clients, "colluders": colluders, "against": against})
    for number, rows in enumerate(work):
        run.append(rows)
        progress("lying", number + 1, len(work))
    return run.path


def ours(scene: Scene) -> Told:
    """All lies, to the halves of a scheme of this package."""
    return {name: (partial(lie, scene), what) for name, (lie, what) in LIES.items()}


def succeeds(name: str, gain: Gain) -> bool:
    """Whether a lie has laid a client's values open."""
    return gain.correlation >= SUCCESS and name != "none"


def _lines(settings: AuditSettings, spec: str, scene: Scene, told: Told) -> Iterator[Row]:
    """One line a lie."""
    for name, (lie, what) in told.items():
        gain = lie()
        fell = succeeds(name, gain)
        found = {"correlation": round(gain.correlation, 4), "succeeds": int(fell)}
        yield _line(settings, spec, scene, name, what) | found | {"outcome": _outcome(gain, fell)}


def _line(settings: AuditSettings, spec: str, scene: Scene, name: str, what: str) -> dict[str, object]:
    facts = {key: getattr(settings, key) for key in ("data", "model", "seed", "batch")}
    whose = {"scheme": spec, "clients": len(scene.batches), "colluders": scene.colluders}
    return {**facts, **whose, "lie": name, "what": what}


def _checks(settings: AuditSettings, spec: str, scene: Scene, subject: Subject) -> Iterator[Row]:
    """One line a check of conformance, without a correlation; `succeeds` says that the check has found a fault."""
    for found in examine(subject, len(scene.batches)):
        what = (getattr(conformance, found.check).__doc__ or "").split(".")[0]
        fault = {"correlation": "", "succeeds": int(not found.passed), "outcome": found.detail}
        yield _line(settings, spec, scene, found.check.replace("_", " "), what) | fault


def _examined(settings: AuditSettings, scene: Scene) -> Iterable[Row]:
    """The checks of a scheme of this package as it is deployed: bound, dense, with a threshold."""
    scheme = scene.scheme
    if type(scheme) is not SGA or not scheme.binding or scheme.threshold is None or scheme.dp is not None:
        return ()
    return _checks(settings, scheme.spec, scene, MaskedScheme(scheme, len(scene.batches)))


def _others(settings: AuditSettings, against: str, scene: Scene) -> Iterator[Row]:
    """The lies and checks of other software; GradwireError if it is not known or not installed."""
    name, _, spec = against.partition(":")
    if name != FLOWER:
        raise GradwireError(f"against is {against!r}; it must be {FLOWER}, with parameters behind a colon or without")
    if find_spec("flwr") is None:
        raise GradwireError(f"against is {against!r}, and flwr is not installed: pip install 'gradwire[flower]'")
    from gradwire.integrations.flower.secaggplus import SecAggPlus
    from gradwire.studies.active.flower import FLOWER_LIES, FlowerScene

    terms = SecAggPlus(**spec_syntax.read(f"against {against!r}", name, spec, spec_syntax.parameters(SecAggPlus)))  # type: ignore[arg-type]
    told = FlowerScene(terms, scene)
    lies = {name: (partial(lie, told), what) for name, (lie, what) in FLOWER_LIES.items()}
    lines = _lines(settings, against, scene, lies)
    return chain(lines, _checks(settings, against, scene, FlowerSum(terms, len(scene.batches))))


def _outcome(gain: Gain, succeeds: bool) -> str:
    if succeeds:
        return "the victim's own values"
    if gain.found is None:
        return f"no sum: {gain.refusals[0].partition(';')[0]}" if gain.refusals else "no sum"
    return "nothing of the victim's alone"


def _schemes(settings: AuditSettings, clients: int, colluders: int) -> Iterator[SGA]:
    """The papers' protocol, with the least threshold that it admits, and ours, for each of the schemes."""
    least = (clients + colluders) // 2 + 1
    usual = tuple(spec.replace("T", str(least)) for spec in USUAL)
    for spec in settings.schemes if settings.schemes != DEFAULT_SCHEMES else usual:
        scheme = parse(spec)
        if not isinstance(scheme, SGA):
            raise GradwireError(f"adversary 'active' lies in secure sums; {spec} is none: sga, ssga, ssga-dgc")
        yield replace(scheme, binding=False, threshold=scheme.threshold and clients // 2 + 1)
        if scheme.binding:
            yield scheme
