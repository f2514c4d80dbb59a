"""Tables as data sets: what becomes of columns, how rows are divided, and what is refused by name."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gradwire import data
from gradwire.data.tables import TableSource
from gradwire.errors import GradwireError
from gradwire.tasks import BinaryCrossEntropy, Category, CrossEntropy, MeanSquaredError, parse_loss

JOBS = ("baker", "nurse", "smith")


def people(count: int = 60, **changes: object) -> pd.DataFrame:
    """Rows of two numbers, two categories and an income; `changes` replace or add columns."""
    random = np.random.RandomState(0)
    columns = {
        "age": random.randint(18, 90, count),
        "job": [JOBS[i % 3] for i in range(count)],
        "height": random.normal(170, 9, count),
        "children": random.randint(0, 4, count),
        "income": np.where(np.arange(count) % 4 == 0, "high", "low"),
    }
    return pd.DataFrame(columns | changes)


def source(rows: pd.DataFrame | None = None, target: object = "income", **options: object) -> TableSource:
    return data.table(people() if rows is None else rows, target=target, **options)  # type: ignore[arg-type]


def test_kinds_are_guessed_and_stand_numbers_first() -> None:
    train = source()("train")
    assert [(n.name, n.whole) for n in train.task.domain.numbers] == [("age", True), ("height", False)]
    assert [(c.name, c.values) for c in train.task.domain.categories] == [("job", JOBS), ("children", tuple("0123"))]
    assert train.task.loss == CrossEntropy(("high", "low"))
    assert train.shape == (2 + 3 + 4,)


def test_a_user_knows_better() -> None:
    domain = source(numbers=["children"], categories=["age"], drop=["height"])("train").task.domain
    assert [n.name for n in domain.numbers] == ["children"]
    assert [c.name for c in domain.categories] == ["age", "job"]
    assert domain.categories[0].values == tuple(str(age) for age in sorted(set(people()["age"])))


def test_every_row_reads_back_as_it_was() -> None:
    rows, whole = people(), source()
    found = {}
    for split in ("train", "test"):
        part = whole(split)
        for cells in part.task.domain.cells(part.inputs):
            found.setdefault(tuple(text for _, text in cells), 0)
            found[tuple(text for _, text in cells)] += 1
    written = [(str(r.age), f"{r.height:.4g}", r.job, str(r.children)) for r in rows.itertuples()]
    assert sorted(found) == sorted(written)
    assert sum(found.values()) == len(rows)


def test_the_training_split_alone_decides_the_scale() -> None:
    train = source()("train")
    numbers = train.inputs[:, :2].double()
    torch.testing.assert_close(numbers.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(numbers.std(0, correction=0), torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)
    given = people(40)
    far = source(given, test=given.assign(age=given["age"] + 1000))
    assert far("train").task == far("test").task
    assert far("test").inputs[:, 0].min() > 10


def test_both_splits_have_one_task_and_each_class() -> None:
    whole = source()
    train, test = whole("train"), whole("test")
    assert (len(train), len(test)) == (48, 12)
    assert train.task == test.task
    assert test.targets.bincount().tolist() == [3, 9]
    assert torch.equal(whole("test", limit=5).inputs, test.inputs[:5])


def test_usual_values_are_those_of_the_training_rows() -> None:
    train = source()("train")
    domain = train.task.domain
    right = domain.agreement(domain.uninformed(), train.inputs).double().mean()
    assert domain.guessed == pytest.approx(float(right))
    assert domain.success({"fields": torch.tensor([domain.guessed, 1.0])}).tolist() == [False, True]


def test_zeros_and_ones_stay_one_column_where_they_are_numbers() -> None:
    rows = people(smokes=[i % 5 == 0 for i in range(60)])
    domain = source(rows, numbers=["smokes"])("train").task.domain
    smokes = domain.numbers[-1]
    assert (smokes.name, smokes.mean, smokes.std, smokes.low, smokes.high) == ("smokes", 0, 1, 0, 1)
    guess = domain.uninformed()[None].clone()
    guess[0, 2] = 0.4
    assert float(domain.snapped(guess)[0, 2]) == 0
    assert source(rows)("train").task.domain.categories[-1].values == ("False", "True")


def test_lists_of_numbers_become_columns() -> None:
    train = source(people(bits=[[i % 2, i % 3 == 0, i % 7] for i in range(60)]))("train")
    assert {n.name for n in train.task.domain.numbers} >= {"bits[0]", "bits[1]", "bits[2]"}


def test_a_category_is_never_in_the_test_split_alone() -> None:
    rows = people(240, town=[f"town{i // 3}" for i in range(240)])
    towns = {}
    for split in ("train", "test"):
        part = source(rows)(split)
        towns[split] = [cells[-1].text for cells in part.task.domain.cells(part.inputs)]
    assert set(towns["test"]) < set(towns["train"])
    assert sorted(towns["train"] + towns["test"]) == sorted(rows["town"])


def test_numbers_are_regressed_in_standard_deviations() -> None:
    train = source(target="height")("train")
    assert train.task.loss == MeanSquaredError(1)
    assert train.targets.shape == (48, 1)
    assert float(train.targets.mean()) == pytest.approx(0, abs=1e-6)
    assert float(train.targets.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert source(target=["height", "age"])("test").task.loss == MeanSquaredError(2)


def test_several_zeros_and_ones_are_labels() -> None:
    rows = people(ill=[i % 3 == 0 for i in range(60)], old=[i % 2 for i in range(60)])
    train = source(rows, ["ill", "old"])("train")
    assert train.task.loss == BinaryCrossEntropy(2)
    assert set(train.targets.unique().tolist()) == {0.0, 1.0}


def test_a_hugging_face_dataset_tells_its_classes() -> None:
    import datasets

    features = datasets.Features(
        {"size": datasets.Value("float32"), "kind": datasets.ClassLabel(names=["cat", "dog", "emu"])}
    )
    rows = datasets.Dataset.from_dict(
        {"size": [i / 7 for i in range(40)], "kind": [i % 2 for i in range(40)]}, features
    )
    assert source(rows, "kind")("train").classes == ("cat", "dog", "emu")
    both = datasets.DatasetDict(train=rows, test=rows.select(range(6)))
    assert source(both, "kind")("test").targets.tolist() == [0, 1] * 3
    (kind,) = source(rows, "size")("train").task.domain.categories
    assert kind == Category("kind", ("cat", "dog", "emu"), "dog")


KEPT = source()


def test_an_object_is_taken_wherever_data_are_loaded() -> None:
    assert len(data.load(source(), "test", limit=4)) == 4
    assert data.spec_of(KEPT) == f"{__name__}:KEPT"
    assert len(data.load(data.spec_of(KEPT), "test", limit=4)) == 4
    with pytest.raises(GradwireError, match="data 'table' is a table that no module has; define it at the top"):
        data.spec_of(source())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_a_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"people.{suffix}"
    getattr(people(), f"to_{suffix}")(path, index=False)
    train = data.load(f"{path}:target=income,drop=height,numbers=children|age,train=20", "train")
    assert len(train) == 20
    assert [n.name for n in train.task.domain.numbers] == ["age", "children"]
    whole = data.load(f"{path}:target=income", "train")
    torch.testing.assert_close(whole.inputs, source()("train").inputs)
    assert torch.equal(whole.targets, source()("train").targets)


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    for count in (60, 40):
        people(count).to_csv(path, index=False)
        assert len(data.load(f"{path}:target=income", "train")) == count * 0.8


def test_a_folder_of_splits_is_a_table(tmp_path: Path) -> None:
    people(30).to_parquet(tmp_path / "train-00000.parquet")
    people(20).to_parquet(tmp_path / "train-00001.parquet")
    people(10).to_csv(tmp_path / "test.csv", index=False)
    spec = f"{tmp_path}:target=income"
    assert [len(data.load(spec, split)) for split in ("train", "test")] == [50, 10]
    (tmp_path / "test.csv").unlink()
    with pytest.raises(GradwireError, match=r"has train files but none of the test split; put test\.csv"):
        data.load(spec)


def test_other_separators_and_a_byte_order_mark(tmp_path: Path) -> None:
    (path := tmp_path / "people.csv").write_text("\ufeff" + people().to_csv(index=False, sep=";"))
    assert data.load(f"{path}:target=income").task.loss.classes == ("high", "low")


def test_only_an_empty_cell_of_a_file_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    people(car=["None", "small"] * 30).to_csv(path, index=False)
    assert data.load(f"{path}:target=income").task.domain.categories[-1].values == ("None", "small")
    path.write_text(path.read_text().replace("None", "", 1))
    with pytest.raises(GradwireError, match=r"column 'car' has no value \(NaN\) in row 0"):
        data.load(f"{path}:target=income")
    people(car=["NA", "1.5", "2.5"] * 20).to_csv(path, index=False)
    with pytest.raises(GradwireError, match="column 'car' of numbers holds 'NA' in row 0; correct it"):
        data.load(f"{path}:target=income")


def test_scikit_learns_tables() -> None:
    one, three = data.load("diabetes", "train"), data.load("linnerud", "train")
    assert (len(one), one.shape, one.task.loss) == (354, (11,), MeanSquaredError(1))
    assert (len(three), three.shape, three.task.loss) == (16, (3,), MeanSquaredError(3))
    assert data.load("diabetes:target=sex,drop=target", "train").classes == ("1", "2")


def with_cell(column: str, row: int, value: object) -> pd.DataFrame:
    rows = people().astype(object)
    rows.loc[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (people(), {"target": "wage"}, "no column 'wage', named as target; it has age, job, height, children, income"),
        (people(), {"target": ()}, "no target column named; say target=NAME: it has age, job"),
        (people(), {"drop": ["wage"]}, "no column 'wage', named as drop; it has age"),
        (people(), {"drop": ["income"]}, "column 'income' is named as target and as drop; name it once"),
        (with_cell("age", 7, "old"), {}, "column 'age' of numbers holds 'old' in row 7; correct it, or say categories"),
        (with_cell("height", 9, "NA"), {"numbers": ["height"]}, "column 'height' of numbers holds 'NA' in row 9"),
        (with_cell("age", 7, None), {}, "column 'age' has no value (NaN) in row 7; fill it in"),
        (with_cell("height", 7, np.inf), {}, "column 'height' of numbers holds inf in row 7"),
        (with_cell("job", 3, None), {}, "column 'job' has no value (NaN) in row 3"),
        (with_cell("income", 3, None), {}, "column 'income' has no value (NaN) in row 3"),
        (people(note=[f"wrote {i}" for i in range(60)]), {}, "'note' holds free text (60 different values in 60); say"),
        (people(land="Norway"), {}, "column 'land' is constant, 'Norway' in every row of the training split; leave it"),
        (
            people(tax=0.5),
            {},
            "column 'tax' is constant, '0.5' in every row of the training split; leave it out: drop=tax",
        ),
        (people(tax=[None] * 60), {}, "column 'tax' is empty in every row; leave it out: drop=tax"),
        (people(born=pd.Timestamp("2000-01-01")), {}, "column 'born' holds values of type Timestamp; make numbers or"),
        (people(more=[{"a": 1}] * 60), {}, "column 'more' holds values of type dict; make numbers or text of it"),
        (
            people(bits=[[0] * (1 + i // 59) for i in range(60)]),
            {},
            "column 'bits' has 2 entries in row 59 and 1 in row 0",
        ),
        (people(bits=[["a"]] * 60), {}, "column 'bits' holds lists that are not of numbers; leave it out: drop=bits"),
        (people(0), {}, "table has no rows; at least one is needed in each split"),
        (people(income="low"), {}, "target 'income' has one class only, 'low'; two or more are needed"),
        (people(height=1.5), {"target": "height"}, "target 'height' is constant, 1.5 in every row"),
        (people(), {"target": ["height", "job"]}, "2 targets must all be numbers, or all zeros and ones: column 'job'"),
        (people()[["income"]], {}, "table has no column beside its target; a network needs one"),
        ([1, 2], {}, "table is a list; it must be a pandas DataFrame or a Hugging Face datasets.Dataset"),
        ({"train": people()}, {}, "table has the splits train but no 'test'; it needs both"),
        (people().set_axis(["age", "age", "b", "c", "income"], axis=1), {}, "table has two columns 'age'; rename one"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(rows: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)) as caught:
        source(rows, **options)("train")  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not isinstance(rows, pd.DataFrame) or "data 'table': " in str(caught.value)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (people(9).assign(job="miner"), "column 'job' has the unseen category 'miner' in row 0 of the test split; the"),
        (people(9).assign(income="none"), "target 'income' has the unseen category 'none' in row 0 of the test split"),
        (people(9).drop(columns="age"), "test split: table has no column 'age', which the training split has"),
        (with_cell("age", 7, "old"), "test split: column 'age' of numbers holds 'old' in row 7"),
    ],
)
def test_a_test_split_that_does_not_fit_is_refused(test: pd.DataFrame, message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)):
        source(test=test)("test")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for name, content, message in (
        ("people.csv", b"\xff\xd8\xff\xe0\0\0", "people.csv is neither CSV nor Parquet"),
        ("people.csv", b"", "people.csv is neither CSV nor Parquet: No columns to parse"),
        ("people.csv", b"age,income\n", "table has no rows"),
        ("people.xlsx", b"PK\3\4", "people.xlsx is neither CSV nor Parquet: a CSV file's name ends in one of .csv"),
        ("people.parquet", b"age,income\n1,2\n", "is no Parquet file, though it is called so"),
        ("people.parquet", b"PAR1 and no more", "people.parquet is neither CSV nor Parquet"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GradwireError, match=re.escape(message)):
            data.load(f"{tmp_path / name}:target=income")
    with pytest.raises(GradwireError, match=r"data file .*absent\.csv does not exist"):
        data.load(f"{tmp_path}/absent.csv:target=income")
    with pytest.raises(GradwireError, match="takes train, test, target, numbers, categories, drop, as key=value"):
        data.load(f"{tmp_path}/absent.csv:goal=income")


def test_a_named_table_that_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADWIRE_DATA", raising=False)
    with pytest.raises(GradwireError, match="data 'adult' are not at hand; set GRADWIRE_DATA to a folder that holds"):
        data.load("adult")


def test_a_loss_that_does_not_suit_the_target() -> None:
    with pytest.raises(GradwireError, match="loss is 'mse'; the targets of these data suit 'cross_entropy'"):
        parse_loss("mse", source()("train").task.loss)


def test_partitions_by_class_need_classes() -> None:
    targets = source(target="height")("train").targets
    assert len(data.partition.split("iid", targets, 4, 0)) == 4
    with pytest.raises(GradwireError, match=r"partition 'dirichlet:0\.5' goes by classes, and these targets are none"):
        data.partition.split("dirichlet:0.5", targets, 4, 0)


@pytest.mark.data
def test_adult_and_location30() -> None:
    for name in ("adult", "location30"):
        if not (Path(os.environ["GRADWIRE_DATA"]) / name).is_dir():
            pytest.skip(f"$GRADWIRE_DATA has no {name}")
    adult, places = data.load("adult"), data.load("location30")
    domain = adult.task.domain
    assert (len(adult), adult.shape, adult.classes) == (16281, (108,), ("<=50K", ">50K"))
    assert (len(domain.numbers), len(domain.categories)) == (6, 8)
    first = dict(domain.cells(adult.inputs[:1])[0])
    assert (first["age"], first["fnlwgt"], first["workclass"], first["sex"]) == ("25", "226802", "Private", "Male")
    assert (len(places), places.shape, len(places.classes)) == (1002, (446,), 30)
    assert set(places.inputs.unique().tolist()) == {0.0, 1.0}
    assert places.task.domain.guessed == pytest.approx(0.890, abs=0.001)
