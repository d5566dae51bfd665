"""The page: right about numbers that can be worked out by hand, and the same from the same raw lines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.evidence.__main__ import main
from benchmarks.evidence.page import pages
from benchmarks.evidence.plan import drawn, plain_and_largest
from benchmarks.evidence.settings import read_study

STEPS = [
    "ranking",
    "other_supernets",
    "searches",
    "winners",
    "classification",
    "baselines",
    "protocols",
    "starts",
]
PART = {
    "supernets": [0, 1],
    "nets": 4,
    "repeats": {"nets": 4, "seeds": [1]},
    "searches": {"strategies": ["detnas", "random"], "seeds": [0, 1]},
    "winners": {"strategies": ["detnas", "random"], "seeds": [0]},
    "classification_searches": [0],
    "protocols": {"reset-alone": {"statistics": "reset"}, "top-1": {}},
    "starts": {"names": ["pretrained", "scratch"], "seeds": [0, 1]},
}


@pytest.fixture
def study(tmp_path: Path, write_study: Callable[..., Path]) -> Path:
    return write_study(tmp_path, STEPS, **PART)


@pytest.fixture
def ranked(study: Path, pen: Callable[[Path], Any]) -> Path:
    """Four nets of AP 0.1 to 0.4. The first supernet swaps one pair of six: tau is 4 / 6; the second none."""
    write = pen(study)
    nets = drawn(read_study(study).parts["small"])
    for place, ops in enumerate(nets, start=1):
        write.net(ops, place / 10)
        write.net(ops, place / 10 + (0.02 if place == 1 else 0), seed=1)
    write.fitness("s0", dict(zip(nets, (0.02, 0.01, 0.03, 0.04), strict=True)))
    write.fitness("s1", dict(zip(nets, (0.01, 0.02, 0.03, 0.04), strict=True)))
    return study


def text_of(file: Path) -> str:
    return pages(read_study(file))["evidence.md"]


def row(text: str, begins: str) -> list[str]:
    """The cells of the only row of a table that begins so."""
    (found,) = [line for line in text.splitlines() if line.startswith(f"| {begins}")]
    return [cell.strip() for cell in found.strip("| ").split(" | ")]


def test_a_study_of_which_nothing_is_run_says_so_of_every_question(study: Path) -> None:
    text = text_of(study)
    assert text.count("\nNot run yet.\n") == 7
    assert len(re.findall(r"^- .* on small: not run yet\.$", text, re.MULTILINE)) == 7


def test_there_is_no_page_of_lines_of_another_config(
    ranked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_study(ranked).parts["small"].config
    config.write_text(config.read_text().replace("calibration_images: 8", "calibration_images: 4"))
    assert main(["page", "--study", str(ranked), "--folder", str(tmp_path / "pages")]) == 1
    assert "nets.jsonl: line 1 is of another config" in capsys.readouterr().err
    assert not (tmp_path / "pages").exists()


def test_the_order_of_the_supernets_is_kendalls_tau(ranked: Path) -> None:
    text = text_of(ranked)
    assert row(text, "Kendall's τ, supernet s0")[1] == "0.667"
    assert row(text, "Kendall's τ, supernet s1")[1] == "1.000"
    assert row(text, "τ, mean of the supernets")[1::2][:1] == ["0.833"]
    # Ranks 2 1 3 4 against 1 2 3 4: 1 - 6 · 2 / (4 · 15).
    assert row(text, "Spearman's ρ, supernet s0")[1] == "0.800"
    # Net 1 comes to a mean of 0.11, which changes no order.
    assert row(text, "the same, with the mean AP of a net's seeds")[1] == "0.833"
    assert row(text, "τ between two trainings that differ")[1::2][:1] == ["1.000"]
    assert row(text, "τ of the supernets over that")[1] == "0.83"
    # Variance by seed 0.0002 / 4, between nets 0.05 / 3: 2/π · asin √0.997.
    assert row(text, "τ of the true order, at most")[1] == "0.965"


def test_supernets_are_compared_with_each_other(ranked: Path) -> None:
    text = text_of(ranked)
    # One pair of six is the other way round.
    assert "Agreement on small: the orders of two supernets agree at Kendall's τ 0.667 (1 pair)" in text
    assert "| block |" not in text  # four nets do not determine what each candidate adds


def test_what_a_blocks_candidates_add_is_found_and_what_supernets_share_of_it(
    tmp_path: Path, write_study: Callable[..., Path], pen: Callable[[Path], Any]
) -> None:
    study = write_study(tmp_path, STEPS, **PART | {"nets": 80})
    nets = drawn(read_study(study).parts["small"])
    write = pen(study)
    for ops in nets[:3]:
        write.net(ops, 0.1)
    by_chance, alike = (0.03, -0.01, -0.01, -0.01), (0.02, 0.02, -0.02, -0.02)
    for name, sign in (("s0", 1), ("s1", -1)):
        write.fitness(name, {ops: 0.3 + sign * by_chance[ops[0]] + alike[ops[8]] for ops in nets})
    text = text_of(study)
    # √(mean of 9, 1, 1, 1) in hundredths. Shuffles never give less than the opposite of all.
    assert row(text, "1 | 0.0173")[1:4] == ["0.0173", "-1.000", "p 1.000"]
    # Two candidates against two: one of six patterns is the same again.
    _, deviation, in_common, p, *_ = row(text, "9 | 0.0200")
    assert (deviation, in_common) == ("0.0200", "+1.000")
    assert float(p.removeprefix("p ")) == pytest.approx(1 / 6, abs=0.02)
    assert row(text, "2 | 0.0000")[1:3] == ["0.0000", "0.000"]
    assert "the candidate of block 9 moves the fitness most" in text


def test_regret_is_what_the_first_choices_lose(ranked: Path) -> None:
    text = text_of(ranked)
    assert row(text, "AP lost by the first of supernet s0")[1] == "0.000"
    # The mean of 0.3, 0.2, 0.1 and 0.
    assert row(text, "AP lost by a net drawn at random")[1] == "0.150"


def test_seeds_and_nets_have_their_own_spread(ranked: Path) -> None:
    text = text_of(ranked)
    assert row(text, "standard deviation of AP between nets")[1] == "0.129"
    # One net of four has differences of ±0.01 from its mean: √(0.0002 / 4).
    assert row(text, "the same, between seeds of one net")[1] == "0.007"


def test_noise_that_nets_share_is_told_from_their_own(ranked: Path, pen: Callable[[Path], Any]) -> None:
    first, second = drawn(read_study(ranked).parts["small"])[:2]
    pen(ranked).noise(first, [0.10, 0.12, 0.14])
    pen(ranked).noise(second, [0.20, 0.22, 0.24])
    text = text_of(ranked)
    assert row(text, "the same, by resampling the test images")[1] == "0.020"
    assert row(text, "the same, without what resampling does to all")[1] == "0.000"


def test_searches_are_compared_in_pairs(ranked: Path, pen: Callable[[Path], Any]) -> None:
    write = pen(ranked)
    a, b, c, d = drawn(read_study(ranked).parts["small"])
    for seed, gain in ((0, 0.01), (1, 0.03)):
        write.search("detnas", seed, {a: 0.05, d: 0.10 + gain})
        write.search("random", seed, {b: 0.06, c: 0.10})
    text = text_of(ranked)
    cells = row(text, "the paper's evolution, all supernets")
    assert (cells[1], cells[3], cells[4]) == ("+0.020", "2", "0.500")
    # Both winners are trained: AP 0.4 against 0.3, twice.
    assert row(text, "the paper's evolution | 0.400")[3:6] == ["+0.100", "[0.100, 0.100]", "2"]
    # Two pairs can give no p below 0.5, so that nothing is claimed.
    assert "may or may not beat random search" in text
    assert (
        "we cannot tell whether its winners are better detectors (AP +0.100 [0.100, 0.100], 2 pairs)" in text
    )


def test_six_pairs_that_agree_are_a_finding(
    tmp_path: Path, write_study: Callable[..., Path], pen: Callable[[Path], Any]
) -> None:
    searches = {"strategies": ["detnas", "random"], "seeds": [0, 1, 2, 3, 4, 5]}
    file = write_study(tmp_path, ["searches"], searches=searches)
    write, ops = pen(file), drawn(read_study(file).parts["small"])[0]
    for seed in range(6):
        write.search("detnas", seed, {ops: 0.2 + seed / 100})
        write.search("random", seed, {ops: 0.1})
    # All signs alike: 2 of 2^6 = 64 ways, p 0.031. The mean gain is 0.1 + 0.025.
    assert row(text_of(file), "the paper's evolution, all supernets")[1:5:3] == ["+0.125", "0.031"]
    assert "finds fitter candidates than random search" in text_of(file)


def test_guides_are_compared_by_their_winners(ranked: Path, pen: Callable[[Path], Any]) -> None:
    write = pen(ranked)
    a, _, _, d = drawn(read_study(ranked).parts["small"])
    for supernet, by_ap, by_top1 in (("s0", a, d), ("s1", d, a)):
        write.search("detnas", 0, {by_ap: 0.1}, supernet)
        write.search("detnas", 0, {by_top1: 0.9}, supernet, guide="top1")
    text = text_of(ranked)
    assert row(text, "difference (p 1.000)")[1] == "0.000 [-0.300, 0.300]"
    assert "may or may not find better detectors than one guided by classification" in text


def test_equal_cost_is_counted_in_seconds_of_a_core(ranked: Path, pen: Callable[[Path], Any]) -> None:
    write = pen(ranked)
    a, b, c, d = drawn(read_study(ranked).parts["small"])
    write.supernet("s0", cpu_seconds=54.0)
    for seed in (0, 1):
        write.search("detnas", seed, {c: 0.1, d: 0.2})
    for ops in plain_and_largest(read_study(ranked).parts["small"].config):
        if ops not in (a, b, c, d):
            write.net(ops, 0.5)
            write.net(ops, 0.5, seed=1)
    text = text_of(ranked)
    # 54 for the supernet and 2 · 3 for a search are two nets of 30; the winner's training makes it three.
    # Of 4 nets the best of 3 is the best in 3 of 4 draws, else the second: 0.75 · 0.4 + 0.25 · 0.3.
    assert row(text, "best of 3 random nets")[1].startswith("0.375 [")
    assert row(text, "winners of the search")[1] == "0.400 [0.400, 0.400]"
    # Two values against two: two of the six ways to deal them are as far apart.
    assert row(text, "the largest net")[3] == "-0.100 [-0.100, -0.100], p 0.333"
    assert "indistinguishable from the largest net (-0.100 [-0.100, -0.100])" in text


def test_a_variant_is_compared_with_the_standard_in_the_supernets_that_have_it(
    ranked: Path, pen: Callable[[Path], Any]
) -> None:
    nets = drawn(read_study(ranked).parts["small"])
    pen(ranked).fitness("s0", dict(zip(nets, (0.4, 0.3, 0.2, 0.1), strict=True)), "reset-alone")
    cells = row(text_of(ranked), "BN reset, not recalibrated")
    assert cells[1:3] == ["-1.000", "-"]
    assert cells[4].startswith("-1.667 [")


def test_a_variant_says_how_far_its_supernets_agree_with_each_other(
    ranked: Path, pen: Callable[[Path], Any]
) -> None:
    nets = drawn(read_study(ranked).parts["small"])
    for name in ("s0", "s1"):
        pen(ranked).fitness(name, dict(zip(nets, (0.4, 0.3, 0.2, 0.1), strict=True)), "reset-alone")
    cells = row(text_of(ranked), "BN reset, not recalibrated")
    assert cells[5] == "1.000 (1.000 to 1.000)"
    # The standard's mean is 0.025.
    assert cells[6:8] == ["0.250", "+0.225"]


def test_a_variant_that_gives_all_nets_the_same_fitness_is_named_without_an_order(
    ranked: Path, pen: Callable[[Path], Any]
) -> None:
    nets = drawn(read_study(ranked).parts["small"])
    pen(ranked).fitness("s0", dict.fromkeys(nets, 0.0), "reset-alone")
    pen(ranked).fitness("s0", dict(zip(nets, (0.4, 0.3, 0.2, 0.1), strict=True)), "top-1")
    text = text_of(ranked)
    assert "BN reset, not recalibrated: all nets have the same fitness, 0.000 in s0, so no order" in text
    assert "All nets have the same fitness with: BN reset, not recalibrated." in text


def test_starts_are_told_apart_only_where_their_seeds_do_not_overlap(
    ranked: Path, pen: Callable[[Path], Any]
) -> None:
    first = drawn(read_study(ranked).parts["small"])[0]  # from its pretrained start 0.10 and 0.12
    write = pen(ranked)
    write.net(first, 0.05, start="scratch")
    write.net(first, 0.08, seed=1, start="scratch")
    assert "2 seeds: AP +0.045 [0.040, 0.050] (above)" in text_of(ranked)
    file = read_study(ranked).lines / "nets.jsonl"
    file.write_text(file.read_text().replace('"AP": 0.08', '"AP": 0.11'))
    assert "2 seeds: AP +0.030 [0.010, 0.050] (cannot tell)" in text_of(ranked)


def test_every_link_leads_to_the_line_that_has_its_number(ranked: Path) -> None:
    study, text = read_study(ranked), text_of(ranked)
    links = re.findall(r"\[([\d.]+)\]\(evidence/(\w+\.jsonl)#L(\d+)\)", text)
    assert len(links) == 4 * 2 + 4 * 2
    for shown, file, number in links:
        line = json.loads((study.lines / file).read_text().splitlines()[int(number) - 1])
        value = line["test"]["AP"] if file == "nets.jsonl" else line["fitness"]
        assert shown == f"{value:.3f}"


def test_the_summary_has_at_most_ten_lines(ranked: Path) -> None:
    summary = text_of(ranked).split("## In short\n")[1].split("\n## ")[0]
    assert 1 <= sum(line.startswith("- ") for line in summary.splitlines()) <= 10


def test_the_page_is_written_from_the_lines_alone_and_checked_byte_by_byte(
    ranked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = ranked.parent / "docs"
    call = ["page", "--study", str(ranked), "--folder", str(docs)]
    assert main([*call, "--check"]) == 1
    assert "run: python -m benchmarks.evidence page" in capsys.readouterr().err
    assert main(call) == 0
    page, image = docs / "evidence.md", docs / "images/evidence-ranking-small.svg"
    before = page.read_bytes(), image.read_bytes()
    shutil.rmtree(ranked.parent / "run", ignore_errors=True)
    assert main([*call, "--check"]) == 0
    image.write_bytes(before[1].replace(b"circle", b"ellipse", 1))
    assert main([*call, "--check"]) == 1
    assert main(call) == 0
    assert (page.read_bytes(), image.read_bytes()) == before


def test_the_page_in_the_repository_is_in_step_with_its_raw_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.delenv("DETNAS_REAL_DATA", raising=False)
    assert main(["page", "--check"]) == 0, capsys.readouterr().err
