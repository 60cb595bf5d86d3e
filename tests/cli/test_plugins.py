"""`afmid plugins`: what is installed, in words and as JSON."""

import json


def test_the_list_says_what_comes_from_where_by_which_hook(afmid, stranger) -> None:
    done = afmid("plugins", **stranger)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert ["afmid_identify", "brightest", "afmid-stranger", "1.0"] in [row[:4] for row in rows]
    assert ["afmid_simulate", "torch", "afmid"] in [row[:3] for row in rows]
    assert "Finds no atoms. Gives maps, atoms." in done.stdout.decode()


def test_json_is_one_line_for_each_plugin(afmid, stranger) -> None:
    lines = afmid("plugins", "--json", **stranger).stdout.splitlines()
    plugins = {record["plugin"]: record for record in map(json.loads, lines)}
    assert plugins["stranger"]["hooks"] == ["afmid_train", "afmid_identify", "afmid_evaluate"]
    assert plugins["stranger"]["failure"] is None
    names = [offer["name"] for offer in plugins["stranger"]["offers"]]
    assert names == ["line", "brightest", "silent", "mapper", "blind", "weighty", "missing"]
    assert plugins["core"]["distribution"] == "afmid"


def test_an_offers_options_are_shown_with_unit_range_and_default(afmid, stranger) -> None:
    words = afmid("plugins", "line", **stranger).stdout.decode()
    assert "pause number at least 0 0 wait before each step, s" in [
        " ".join(line.split()) for line in words.splitlines()
    ]
    record = json.loads(afmid("plugins", "brightest", "--json", **stranger).stdout)
    assert record["options"][1] == {
        "name": "confidence", "type": "number", "range": "0 to 1", "default": "0.6", "description": "how sure to be",
    }  # fmt: skip


def test_an_unknown_name_is_refused_with_the_nearest(afmid, stranger) -> None:
    done = afmid("plugins", "brigthest", **stranger)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"did you mean 'brightest'?" in done.stderr
