from tests.cli.test_cli import run


def test_wire():
    result = run("bench", "wire")
    assert result.returncode == 0, result.stderr
    assert "GB/s" in result.stdout


def test_inversion_reaches_what_the_loop_reaches():
    from gradwire.bench.inversion import inversion_speeds

    speeds = list(inversion_speeds("convnet", "digits", (3,), iterations=3))
    assert [speed.way for speed in speeds] == ["loop", "batched", "functional"]
    assert max(s.objective for s in speeds) - min(s.objective for s in speeds) < 1e-3
    assert all(speed.milliseconds > 0 for speed in speeds)
