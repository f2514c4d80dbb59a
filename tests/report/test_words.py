from gradwire.report import pair, summarise
from gradwire.report.audit import page as words
from gradwire.report.audit.figure import caption

PERCENT = "\N{NO-BREAK SPACE}%"


def test_headline_is_the_widest_gap(rows) -> None:
    assert words.headline(pair(summarise(rows))) == (
        f"At 1/38 of the bytes, powersgd:rank=4 leaks 78{PERCENT} of what plain SGD leaks to an adversary who knows "
        f"the scheme; 22{PERCENT} to one who does not"
    )


def test_headline_of_one_knowledge(rows) -> None:
    naive = [row for row in rows if row["knowledge"] == "naive"]
    assert words.headline(pair(summarise(naive))) == (
        f"At 1/38 of the bytes, powersgd:rank=4 leaks 22{PERCENT} of what plain SGD leaks to the naive attack"
    )


def test_no_headline_without_something_to_compare(rows) -> None:
    assert words.headline(pair(summarise(rows[:4]))) is None
    assert words.headline(pair(summarise(rows[4:]))) is None


def test_baseline(rows) -> None:
    assert words.baseline(pair(summarise(rows))) == (
        "Plain SGD sends 38 kB and gives away 2 of 2 victims (mean SSIM 0.90)."
    )
    assert words.baseline(pair(summarise(rows[4:]))) is None


def test_assumptions_follow_the_settings(row) -> None:
    setting = summarise([row(adversary="client", mode="train", batch=4)])[0].setting
    settings = {"labels": "inferred", "trained_rounds": 1, "clients": 3, "error_feedback": False}
    text = words.assumptions(settings, setting)
    for part in ("fellow client", "infers them", "4 images", "one of 3 clients", "train mode", "1 round before", "off"):
        assert part in text


def test_assumptions_tell_long_rounds_of_training_from_short_ones(row) -> None:
    setting = summarise([row()])[0].setting
    text = words.assumptions({"trained_rounds": 5, "trained_epochs": 2}, setting)
    assert "trained for 5 rounds, each of 2 local epochs, before" in text


def test_assumptions_say_nothing_that_is_not_known(row) -> None:
    text = words.assumptions({}, summarise([row()])[0].setting)
    for part in ("labels", "trained", "clients.", "Error feedback"):
        assert part not in text


def test_what_was_not_tried_follows_the_settings() -> None:
    settings = {"knowledge": "both", "trained_rounds": 0, "rounds": 1, "local_steps": 0, "batch": 1, "public": 0}
    said = words.untried(settings)
    assert said.startswith(
        "Not tried: an adversary with hundreds of images of its own (--public 500); a trained network"
    )
    tried = {"knowledge": "both", "trained_rounds": 9, "rounds": 2, "local_steps": 3, "batch": 4, "public": 600}
    assert words.untried(tried) == ""
    assert "knows the scheme" in words.untried(tried | {"knowledge": "naive"})
    assert words.untried({}) == ""


def test_no_share_of_plain_sgd_is_told_where_nothing_was_inverted(rows) -> None:
    failed = [{**row, "success": "0"} for row in rows]
    said = "Nothing can be told: not even plain SGD was inverted (0 of 2 victims); a longer attack may"
    assert words.headline(pair(summarise(failed))) == said
    # Where the scheme's own updates were inverted there is something to tell, whatever became of plain SGD's.
    some = [{**row, "success": "1" if row["scheme"] != "none" else "0"} for row in rows]
    assert words.headline(pair(summarise(some))) != said


def test_of_several_attacks_the_headline_has_the_best_for_either_adversary(rows) -> None:
    weak = [{**row, "attack": "dlg", "ssim": str(float(row["ssim"]) / 4)} for row in rows]
    alone, both = (words.headline(pair(summarise(each))) for each in (rows, [*weak, *rows]))
    assert both == alone


def test_who_knows_the_scheme_is_told_no_less_than_who_does_not(row) -> None:
    rows = [row("none", k, 0.9) for k in ("naive", "adaptive")]
    rows += [row("topk", "naive", 0.8), row("topk", "adaptive", 0.3)]
    told = words.headline(pair(summarise(rows)))
    assert f"leaks 89{PERCENT} of what plain SGD leaks to an adversary who knows" in told
    assert told.endswith(f"; 89{PERCENT} to one who does not")


def test_one_victim_is_no_plural(row) -> None:
    assert "gives away 1 of 1 victim (" in words.baseline(pair(summarise([row()])))
    assert "(0 of 1 victim)" in words.headline(pair(summarise([row(ssim=0.1)])))


def test_the_caption_says_what_the_figure_shows(rows, row) -> None:
    assert caption(summarise(rows)).startswith("Hollow: naive; filled: adaptive. Error bars:")
    more = [*rows, row("topk:match_rank=1", "naive")]
    assert "Dashed: naive; solid: adaptive. Bands, or error bars where there is one point:" in caption(summarise(more))
    lines = [row(f"topk:ratio={ratio}", "naive") for ratio in (0.1, 0.2)]
    assert caption(summarise(lines)).endswith("Bands: ± one sample standard deviation over victims.")
