import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, rosen, rosen_der

from gradwire.attacks.inversion.optimize import LBFGS, Adam, Box, lbfgs, pairs
from gradwire.errors import GradwireError


def rosenbrock(points):
    """Rows of Rosenbrock's function, minimal at (1, …, 1)."""
    x, y = points[:, :-1], points[:, 1:]
    return (100 * (y - x.square()).square() + (1 - x).square()).sum(1)


def differentiated(function):
    def evaluate(points):
        points = points.detach().requires_grad_()
        values = function(points)
        return values.detach(), torch.autograd.grad(values.sum(), points)[0]

    return evaluate


def quadratics(seed, rows=3, size=6):
    """Convex quadratics ½(x − c)ᵀA(x − c), one a row."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(rows, size, size, generator=generator, dtype=torch.float64)
    matrices = root @ root.mT + 0.1 * torch.eye(size, dtype=torch.float64)
    centres = torch.randn(rows, size, generator=generator, dtype=torch.float64)

    def function(points):
        off = points - centres
        return ((matrices @ off.unsqueeze(2)).squeeze(2) * off).sum(1) / 2

    return function, matrices, centres


def minimise(optimizer, function, iterations):
    for _ in range(iterations):
        optimizer.step(differentiated(function))
    return optimizer.points


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_lbfgs_finds_the_minimum_of_every_quadratic(seed):
    function, _, centres = quadratics(seed)
    found = minimise(LBFGS(torch.zeros_like(centres)), function, 150)
    torch.testing.assert_close(found, centres, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 1000))
@settings(max_examples=10)
def test_lbfgs_finds_what_scipy_finds_within_bounds(seed):
    function, matrices, centres = quadratics(seed)
    low, high = -torch.full_like(centres[0], 0.3), torch.full_like(centres[0], 0.5)
    found = minimise(LBFGS(torch.zeros_like(centres), Box(low, high)), function, 300)
    assert (found >= low).all()
    assert (found <= high).all()
    for row, (a, c) in enumerate(zip(matrices.numpy(), centres.numpy(), strict=True)):
        exact = minimize(
            lambda x, a=a, c=c: (x - c) @ a @ (x - c) / 2,
            torch.zeros(len(c)).numpy(),
            jac=lambda x, a=a, c=c: a @ (x - c),
            bounds=[(-0.3, 0.5)] * len(c),
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        assert float(function(found)[row]) == pytest.approx(exact.fun, rel=1e-4, abs=1e-8)


def test_lbfgs_takes_as_few_evaluations_as_scipy_on_rosenbrock():
    generator = torch.Generator().manual_seed(0)
    starts = 1 + torch.randn(16, 10, generator=generator, dtype=torch.float64)
    theirs = [minimize(rosen, row.numpy(), jac=rosen_der, method="L-BFGS-B").nfev for row in starts]
    found = minimise(LBFGS(starts), rosenbrock, 2 * max(theirs))
    # From some starts Rosenbrock's function of ten variables leads to its second minimum, of value 3.99.
    values = rosenbrock(found)
    assert ((values < 1e-6) | ((values - 3.9866).abs() < 1e-3)).all()
    assert (values < 1e-6).sum() > 8


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_rows_do_not_mix(kind):
    starts = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def optimizer(rows):
        return LBFGS(rows) if kind == "lbfgs" else Adam(rows, Box.everywhere(rows), 60)

    together = minimise(optimizer(starts), rosenbrock, 60)
    for row in range(4):
        alone = minimise(optimizer(starts[row : row + 1]), rosenbrock, 60)
        torch.testing.assert_close(alone[0], together[row], atol=1e-9, rtol=1e-9)


class PlainRecursion:
    """Algorithm 7.4 of Nocedal and Wright as it is printed: one row, and one pair, after another."""

    def __init__(self, history):
        self.history, self.rows = history, {}

    def empty(self, start, history):
        self.history, self.rows = history, {row: [] for row in range(len(start))}
        return {"held": torch.zeros(len(start), dtype=torch.int64)}

    def forget(self, memory, lost):
        for row in lost.nonzero()[:, 0].tolist():
            self.rows[row] = []

    def recursion(self, memory, moved, step, change, slopes):
        for row in moved.nonzero()[:, 0].tolist():
            s, y = step[row], change[row]
            if s @ y > 1e-10 * s.norm() * y.norm():
                self.rows[row] = [*self.rows[row], (s, y)][-self.history :]
        memory["held"] = torch.tensor([len(kept) for kept in self.rows.values()])
        return torch.stack([self.one(self.rows[row], g) for row, g in enumerate(slopes)])

    def one(self, kept, q):
        alphas = []
        for s, y in reversed(kept):
            alphas.append((s @ q) / (s @ y))
            q = q - alphas[-1] * y
        if kept:
            s, y = kept[-1]
            q = q * (s @ y) / (y @ y)
        for (s, y), alpha in zip(kept, reversed(alphas), strict=True):
            q = q + (alpha - (y @ q) / (s @ y)) * s
        return q


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_products_of_small_matrices_give_the_recursion(seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, size, history = 4, 7, 3
    plain, start = PlainRecursion(history), draw(rows, size)
    root = draw(rows, size, size)
    memory, reference = pairs.empty(start, history), plain.empty(start, history)
    for _ in range(9):
        # Some rows move, of these some along a negative curvature; some forget; the rest keeps what it has.
        moved, lost = (torch.rand(2, rows, generator=generator) < torch.tensor([[0.7], [0.1]])).unbind()
        step, slopes = draw(2, rows, size).unbind()
        change = ((root @ root.mT) @ step[:, :, None])[:, :, 0] * (1 - 2 * (torch.arange(rows) == 3))[:, None]
        change[~moved] = torch.nan
        for each, kept in ((pairs, memory), (plain, reference)):
            each.forget(kept, lost)
        found = pairs.recursion(memory, moved, step, change, slopes)
        torch.testing.assert_close(found, plain.recursion(reference, moved, step, change, slopes), rtol=1e-6, atol=1e-6)
        assert torch.equal(memory["held"], reference["held"])
    assert memory["held"][3] == 0


@pytest.mark.parametrize("bounded", [True, False])
def test_the_iterates_are_those_of_the_plain_recursion(bounded, monkeypatch):
    function, _, centres = quadratics(5, rows=6, size=12)
    edge = torch.full_like(centres[0], 0.4 if bounded else torch.inf)
    ours, plain = [], []
    optimizer = LBFGS(torch.zeros_like(centres), Box(-edge, edge), history=4)
    for _ in range(40):
        optimizer.step(differentiated(function))
        ours.append(optimizer.points)
    monkeypatch.setattr(lbfgs, "pairs", PlainRecursion(4))
    optimizer = LBFGS(torch.zeros_like(centres), Box(-edge, edge), history=4)
    for _ in range(40):
        optimizer.step(differentiated(function))
        plain.append(optimizer.points)
    torch.testing.assert_close(torch.stack(ours), torch.stack(plain), rtol=1e-8, atol=1e-8)


def test_a_row_that_is_lost_forgets_its_pairs_and_no_other_does():
    optimizer = LBFGS(torch.randn(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    minimise(optimizer, rosenbrock, 10)
    held, before = optimizer.state["held"].clone(), optimizer.points[0].clone()
    assert (held > 1).all()

    def closed(points):
        """The first row's values are no numbers any more."""
        return torch.where(torch.tensor([True, False]), torch.nan, rosenbrock(points))

    minimise(optimizer, closed, lbfgs.TRIALS)
    assert optimizer.state["held"][0] == 0
    assert optimizer.state["held"][1] > held[1]
    assert torch.equal(optimizer.points[0], before)


def test_the_state_of_another_optimiser_is_refused():
    start = torch.zeros(2, 3)
    with pytest.raises(GradwireError, match="state of LBFGS holds done, first, points, second; it must hold"):
        LBFGS(start).restore(Adam(start, Box.everywhere(start), 5).state)


def test_lbfgs_never_goes_up_and_keeps_away_from_what_is_not_finite():
    def cliff(points):
        """A logarithmic barrier, not a number beyond it."""
        return points.square().sum(1) - points[:, 0].log()

    optimizer = LBFGS(torch.tensor([[3.0, 4.0], [0.01, -50.0], [-1.0, 0.0]], dtype=torch.float64))
    values = []
    for _ in range(120):
        optimizer.step(differentiated(cliff))
        values.append(optimizer.state["values"])
    assert (torch.stack(values)[:, :2].diff(dim=0) <= 0).all()
    right = torch.tensor([0.5**0.5, 0.0], dtype=torch.float64).expand(2, 2)
    torch.testing.assert_close(optimizer.points[:2], right, atol=1e-5, rtol=1e-5)
    assert torch.equal(optimizer.points[2], torch.tensor([-1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("decay", ["steps", "cosine"])
def test_adam_is_pytorchs(signed, decay):
    start = torch.rand(3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    reference = start.clone().requires_grad_()
    theirs = torch.optim.Adam([reference], lr=0.1)
    schedule = (
        torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 40)
        if decay == "cosine"
        else torch.optim.lr_scheduler.MultiStepLR(theirs, [15, 25, 35])
    )
    for _ in range(40):
        slope = differentiated(rosenbrock)(reference)[1]
        reference.grad = slope.sign() if signed else slope
        theirs.step()
        schedule.step()
        reference.data.clamp_(-1, 1)
    edge = torch.ones(5, dtype=torch.float64)
    ours = minimise(Adam(start, Box(-edge, edge), 40, 0.1, signed, decay), rosenbrock, 40)
    torch.testing.assert_close(ours, reference.detach(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", ["adam", "lbfgs"])
def test_a_state_put_back_goes_on_to_the_last_bit(kind):
    starts = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    make = {"adam": lambda: Adam(starts, Box.everywhere(starts), 60), "lbfgs": lambda: LBFGS(starts)}[kind]
    whole = minimise(make(), rosenbrock, 60)
    first = make()
    minimise(first, rosenbrock, 23)
    kept = {name: tensor.clone() for name, tensor in first.state.items()}
    second = make()
    second.restore(kept)
    assert torch.equal(minimise(second, rosenbrock, 37), whole)
