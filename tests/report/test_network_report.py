from math import inf

import pytest

from gradwire.errors import GradwireError
from gradwire.report import NETWORK_COLUMNS, table, write
from gradwire.report.benches.network import headline, network_table, paces, rate_text


@pytest.fixture
def network_rows():
    """Plain SGD and two schemes at two rates, the first of them measured as well."""
    rows = []
    for scheme, coding, count in (("none", 0.0, 1e8), ("topk:ratio=0.01", 0.08, 0.0), ("qsgd", 0.1, 2e8)):
        for rate in (1e8, 1e9):
            seconds = 0.5 + coding + 8 * count / rate
            values = (
                *("random", "resnet18", scheme, 0, "cpu", seconds, 2, 32),
                *("modelled", rate, 0.5, coding, count, 1, 0.0),
            )
            rows.append(dict(zip(NETWORK_COLUMNS, values, strict=True)))
            if rate == 1e8:
                rows.append(rows[-1] | {"source": "measured", "seconds": 2 * seconds})
    return rows


def test_a_scheme_pays_below_the_rate_at_which_it_takes_as_long(network_rows):
    plain, sparse, dense = paces(network_rows)
    assert plain.crossing is None
    assert sparse.crossing == pytest.approx(1e10)
    assert sparse.step.seconds(1e10, 0) == pytest.approx(plain.step.seconds(1e10, 0))
    assert dense.crossing == 0
    assert headline([plain, sparse, dense]) == "topk:ratio=0.01 is faster than plain SGD on links below 10 Gbps"


def test_the_table_has_model_and_measurement_side_by_side(network_rows):
    rows = network_table(paces(network_rows)).rows
    assert rows[0] == ("none", "0.500 s", "0.000 s", "100.00", "8.50 / 17.00", "1.30", "–")
    assert [row[-1] for row in rows] == ["–", "10 Gbps / over 100 Mbps", "never / under 100 Mbps"]
    assert network_table(paces(network_rows), brief=True).rows[1][:2] == ("topk:ratio=0.01", "0.00")


def test_its_report(write_run, network_rows):
    folder = write_run(network_rows, pictures=False, command="bench network")
    page = write(folder).read_text()
    assert "faster than plain SGD on links below 10 Gbps" in page
    assert {"network.svg", "network.png", "summary.md", "summary.tex"} < {path.name for path in folder.iterdir()}
    assert table(folder).row_count == 3


def test_a_figure_that_is_none_is_refused(write_run, network_rows):
    network_rows[0]["coding"] = "fast"
    with pytest.raises(GradwireError, match="column coding of none holds 'fast'"):
        write(write_run(network_rows, pictures=False))


def test_rates_in_words():
    assert [rate_text(rate) for rate in (1e8, 2.44e9, 1e9, 0, inf, None)] == [
        *("100 Mbps", "2.44 Gbps", "1 Gbps", "never", "always", "–"),
    ]
