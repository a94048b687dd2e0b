"""tools/report.py: what the page says of runs whose figures are known, that it is one file, and what it refuses."""

import base64
import io
import json
import math
import runpy
import sys
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from made_runs import ROOT, run_settings, write_run, write_unfinished
from matplotlib.figure import Figure
from PIL import Image

from evidence.curves import draw_validation
from evidence.groups import Spread, group_records
from evidence.page import spread_text, write_page
from evidence.records import read_records
from evidence.web import duration, embed_figure, embed_picture, number, signed
from pretrain.console import UserError

VOID = {"meta", "img", "br", "hr", "link", "input"}


class _Page(HTMLParser):
    """Every image, link and row of a page; an element that is not closed, or closed twice, is an error."""

    def __init__(self, path):
        super().__init__()
        self.open, self.images, self.links, self.ids, self.rows, self.text, self.sources = [], [], [], [], [], "", []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.images += [attributes] if tag == "img" else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.sources += [attributes[key] for key in ("src", "srcset", "data") if key in attributes]
        assert tag not in ("link", "script", "iframe")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] != "style" and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data.strip()


def _image(uri):
    kind, content = uri.removeprefix("data:").split(";base64,")
    content = base64.b64decode(content)
    if kind == "image/svg+xml":
        return ElementTree.fromstring(content)
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def test_numbers_and_times_as_people_write_them():
    assert [number(1.25), number(None), number(math.nan), number(2, 0)] == ["1.2", "-", "-", "2"]
    assert [signed(0.305), signed(-1.2)] == ["+0.30", "−1.20"]
    assert [duration(s) for s in (95.4, 119.7, 725, 7199.6, 12_000, None)] == [
        *("95 s", "2 min 00 s", "12 min 05 s", "2 h 00 min", "3 h 20 min", "-"),
    ]
    assert spread_text(Spread((70.0, 72.0, 74.0))) == "72.00 ± 2.00"  # the sample's: sqrt((4 + 0 + 4) / 2)
    assert [spread_text(Spread((70.0,))), spread_text(None)] == ["70.00", "-"]


def test_pictures_are_small_and_whole(tmp_path):
    Image.new("RGB", (900, 300), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (200, 100), "red").save(tmp_path / "small.png")
    shrunk = _image(embed_picture(tmp_path / "wide.png", 300))
    assert (shrunk.format, shrunk.size) == ("JPEG", (300, 100))
    kept = embed_picture(tmp_path / "small.png", 300)
    assert base64.b64decode(kept.split(",")[1]) == (tmp_path / "small.png").read_bytes()
    (tmp_path / "cut.png").write_bytes((tmp_path / "small.png").read_bytes()[:60])
    with pytest.raises(UserError, match=r"cut\.png: not a whole picture"):
        embed_picture(tmp_path / "cut.png", 300)

    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    svg = base64.b64decode(embed_figure(figure).split(",")[1]).decode()
    assert svg.count("@media (prefers-color-scheme: dark)") == 1
    assert "fill: #ffffff" not in svg  # no background of its own
    with_image = Figure()
    with_image.subplots().imshow([[0, 1]])
    assert _image(embed_figure(with_image)).format == "PNG"


def test_an_unfinished_run_is_read_as_far_as_it_goes(tmp_path):
    unknown = write_unfinished(tmp_path / "a/automix")
    known = write_unfinished(tmp_path / "b/automix", run_settings("automix", 3, **{"optim.epochs": 20}))
    (write_unfinished(tmp_path / "c/vanilla") / "log.jsonl").write_text("")  # just begun
    records, left_out = read_records([tmp_path])
    assert left_out == {}
    by_folder = {record.folder: record for record in records}
    assert not any(record.finished for record in records)
    assert (by_folder[unknown].step, by_folder[unknown].total, by_folder[unknown].seed) == (100, None, None)
    assert (by_folder[known].step, by_folder[known].total, by_folder[known].seed) == (100, 620, 3)  # 20 epochs of 31
    assert by_folder[known].networks == ["teacher", "student"]
    assert by_folder[known].accuracy["teacher_top1"] == 12.25

    groups = group_records(records)
    assert [group.label for group in groups] == [f"AutoMix ({name}, unfinished)" for name in "ab"] + [
        "Vanilla (c, unfinished)"
    ]
    page, _ = write_page([tmp_path])
    text = " ".join(_Page(page).text.split())
    assert "AutoMix (b), step 100 of 620" in text
    assert "Vanilla (c), step 0 of ?." in text
    assert "No run has ended yet" in text
    assert ["AutoMix (b, unfinished)", "3", "100 of 620", "12.25", "7 s", str(known)] in _Page(page).rows
    lines = draw_validation(groups).axes[0].lines
    assert {line.get_linestyle() for line in lines} == {"--", ":"}


def _evaluate(folder, **values):
    folder.mkdir()
    content = {"checkpoint": "teacher", "arch": "resnet18", "method": "automix", "branch": "teacher", "images": 1000}
    content |= {"data": {}, "left_out": {}} | values
    (folder / "evaluation.json").write_text(json.dumps(content))
    for name in ("calibration", "mixed_cams", "masks_over_lambda"):
        Image.new("RGB", (80, 60), "white").save(folder / f"{name}.png")


def _followed(tmp_path):
    """Write two seeds with evaluations, mixes, a detector and a localisation."""
    for seed in (0, 1):
        folder = write_run(tmp_path / f"runs/{seed}/automix", "automix", seed, 72.0 + seed, 300.0, {"student": 70.0})
        corruption = {"mean": 40.0 + seed, "by_corruption": {"fog": [50, 40, 30, 20, 10 + 5 * seed]}}
        of_one = {"top5": 90.0} if seed else {}  # a mean over fewer runs than the row has is none
        _evaluate(folder / "evaluation", top1=72.0, ece=3.0 + seed, fgsm_error=80.0, corruption=corruption, **of_one)
        (folder / "mixes").mkdir()
        for epoch in range(1, 9):
            Image.new("RGB", (90, 66), (epoch, 0, 0)).save(folder / f"mixes/epoch_{epoch:04d}.png")
    write_run(tmp_path / "runs/0/vanilla", "vanilla", 0, 71.0)
    vanilla = tmp_path / "runs/0/vanilla/export/model.safetensors"
    _evaluate(tmp_path / "vanilla's", checkpoint=str(vanilla), branch="model", ece=9.0)  # asked to write it elsewhere
    _evaluate(tmp_path / "else where", top1=50.0, left_out={"fgsm": "it <needs> gradients"})
    detector = tmp_path / "d2/a b"
    detector.mkdir(parents=True)
    detection = {"framework": "Detectron2 0.6", "config": "voc", "start": "automix teacher", "seed": 0, "AP": 7.31}
    (detector / "results.json").write_text(json.dumps({**detection, "AP50": 19.6, "AP75": None, "iterations": 400}))
    (tmp_path / "d2/other").mkdir()
    (tmp_path / "d2/other/results.json").write_text('{"accuracy": 1}')
    (tmp_path / "wsol").mkdir()
    accuracy = {"30": 80.3, "50": 43.9, "70": 18.2, "mean": 47.47}
    local = {"max_box_acc_v2": accuracy, "centre_baseline": {**accuracy, "mean": 20.7}, "images": 66}
    (tmp_path / "wsol/wsol.json").write_text(json.dumps({**local, "checkpoint": {"method": "automix"}}))


def test_the_page_is_whole_and_has_what_followed(tmp_path, capsys):
    _followed(tmp_path)
    path, _ = write_page([tmp_path], tmp_path / "pages/report.html")
    page = _Page(path)
    assert all(source.startswith("data:image/") for source in page.sources)
    assert all(image["alt"] for image in page.images)
    for image in page.images:
        _image(image["src"])
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) == set(page.ids)
    assert "../d2/a%20b/results.json" in page.links
    outside = [(path.parent / unquote(link)).resolve() for link in page.links if not link.startswith("#")]
    assert outside == [tmp_path / "d2/a b/results.json", tmp_path / "wsol/wsol.json"]
    assert "http" not in path.read_text().replace("http://www.w3.org", "")

    rows = page.rows
    assert ["AutoMix", "teacher", "2", "72.50 ± 0.71", "82.50 ± 0.71", "100", "5 min 00 s", "10.7"] in rows
    assert ["AutoMix", "student", "2", "70.00 ± 0.00", "80.00 ± 0.00", "", "", ""] in rows
    assert ["AutoMix", "+1.50", "-", "-", "no test: one seed of the reference", "× 3.00"] in rows
    assert ["method.name", "vanilla", "automix"] in rows
    assert [
        "AutoMix",
        "teacher",
        "1000",
        "72.00 ± 0.00",
        "-",
        "3.50 ± 0.71",
        "80.0 ± 0.0",
        "-",
        "-",
        "40.5 ± 0.7",
    ] in rows
    assert ["Vanilla", "model", "1000", "-", "-", "9.00", *"----"] in rows
    assert ["fog", "30.5 ± 0.7"] in rows  # means over severities of 30 and 31
    assert [str(tmp_path / "else where"), "teacher", "1000", "50.00", *"------"] in rows
    detected = ["7.3", "19.6", "-", "400", "../d2/a b"]
    assert ["automix teacher", "Detectron2 0.6", "voc", "0", *detected] in rows
    assert ["automix", "80.3", "43.9", "18.2", "47.5", "20.7", "66", "../wsol"] in rows
    assert ["torch", "2.14.1"] in rows
    text = " ".join(page.text.split())
    assert f"fgsm (it <needs> gradients): {tmp_path / 'else where'}, teacher" in text
    assert "d2/other/results.json: not as this toolkit writes it; it lacks framework" in text
    assert "left out: " in capsys.readouterr().err
    described = [image["alt"] for image in page.images]
    assert "Calibration of AutoMix, teacher" in described
    over_lambda = [words for words in described if words.startswith("Masks of the Mix Block over λ")]
    assert not any("AutoMix" in words for words in over_lambda)  # its mixes show them
    assert len(over_lambda) == 2
    assert "Where the network sees each of the two classes of mixed images (Grad-CAM), AutoMix, teacher" in described
    strip = [words for words in described if words.startswith("The same pairs")]
    assert strip == [f"The same pairs after epoch {epoch}" for epoch in (1, 4, 7)]
    [last] = [image["src"] for image in page.images if image["alt"].endswith("AutoMix, epoch 8")]
    assert _image(last).getpixel((0, 0)) == (8, 0, 0)
    assert not list((tmp_path / "pages").glob(".*"))  # no temporary file stays


def test_the_command_line(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tools/report.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "tools/report.py"), run_name="__main__")
        return ended.value.code, capsys.readouterr()

    empty = tmp_path / "empty"
    empty.mkdir()
    code, said = call(empty)
    assert (code, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"error: {empty}: no pretraining run here; a run's folder")
    assert "log.jsonl" in said.err
    assert list(empty.iterdir()) == []
    assert call(tmp_path / "none")[0] == 2

    write_run(tmp_path / "work/vanilla", "vanilla", 0, 71.25)
    (tmp_path / "work/report.html").write_text('<meta name="generator" content="tools/report.py">of yesterday')
    code, said = call(tmp_path / "work", empty)
    assert (code, said.out.splitlines()[-1]) == (0, f"report: {tmp_path / 'work/report.html'}")
    assert "71.25" in said.out
    written = (tmp_path / "work/report.html").read_text()
    assert "yesterday" not in written
    assert '<meta name="generator" content="tools/report.py">' in written[:500]  # so that it may be written over
    (tmp_path / "work/report.html").write_text("<html>of the quickstart</html>")
    code, said = call(tmp_path / "work")
    assert code == 2
    assert "was not written by tools/report.py; name another file by --out" in said.err
    assert (tmp_path / "work/report.html").read_text() == "<html>of the quickstart</html>"
    assert (
        f"is a folder; name a file, such as --out {empty}/report.html" in call(tmp_path / "work", "--out", empty)[1].err
    )
    code, said = call(tmp_path / "work", "--out", tmp_path / "work/report.html/below.html")
    assert (code, said.err.count("\n")) == (2, 1)
    assert "report.html: no file can be written there" in said.err
    assert said.err.endswith("name another folder, by --out\n")

    (tmp_path / "work/vanilla/log.jsonl").write_text('{"step": 1}\n[1]\n{"step": 2}\n')
    code, said = call(tmp_path / "work", "--out", tmp_path / "new.html")
    assert code == 2
    assert "log.jsonl: entry 2 is none of a run's log ([1])" in said.err
    assert not (tmp_path / "new.html").exists()


def test_a_run_without_log_and_a_name_with_brackets(tmp_path):
    folder = write_run(tmp_path / "<b>/vanilla", "vanilla", 0)
    (folder / "log.jsonl").unlink()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/result.json").write_text("{")
    path, _ = write_page([tmp_path])
    page = _Page(path)
    assert "b" not in page.open
    assert ["Vanilla", "0", "100", "70.00", "100 s", str(folder)] in page.rows
    assert "No log has an entry yet" in page.text
    assert "damaged" in page.text
