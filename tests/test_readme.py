"""The README's Python example runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs_and_shows_what_leaked(capsys):
    example, *_ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, str(README), "exec"), {})
    shown = re.fullmatch(r"(\d+) bytes sent, SSIM (\d\.\d\d)\n", capsys.readouterr().out)
    assert int(shown[1]) < 10_000
    assert float(shown[2]) > 0.9
