"""The ticket: a folder that predicts the same anywhere, says what is true, and refuses to be read damaged."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

import supertickets as st
from supertickets import Ticket, UserError
from supertickets.config.loading import recipe_from_json
from supertickets.data import load_splits
from supertickets.runs.evaluate import evaluate_ticket
from supertickets.tasks import Classification, Pose, Segmentation, Task, find_task, task_name_of_head

SOURCE = Path(st.__file__).parent
FILES = {"config.json", "model.safetensors", "mask.safetensors", "README.md"}

# Loads a ticket and runs it with nothing but what a ticket needs: `training` and all rooms above it cannot be imported,
# and the package's own __init__, which imports everything, is passed by.
_CLEAN_PROCESS = """
import sys, types
package = types.ModuleType("supertickets")
package.__path__ = [sys.argv[1]]
sys.modules["supertickets"] = package

class Refuse:
    def find_spec(self, name, *rest):
        if name.split(".")[:2] in [["supertickets", room] for room in ("training", "draw", "runs", "schedule", "cli")]:
            raise ImportError(f"a ticket needs {name}")

sys.meta_path.insert(0, Refuse())
import numpy, torch
from supertickets.ticket import load
torch.set_num_threads(1)
ticket = load(sys.argv[2])
with torch.no_grad():
    numpy.save(sys.argv[4], ticket.module(torch.from_numpy(numpy.load(sys.argv[3]))).numpy())
"""


@pytest.fixture
def copy(toy_run: Path, tmp_path: Path) -> Path:
    """A ticket's folder to do harm to."""
    return Path(shutil.copytree(toy_run / "ticket", tmp_path / "ticket"))


def inputs(ticket: Ticket, count: int = 16) -> torch.Tensor:
    return torch.randn(count, *ticket.spec.input_shape, generator=torch.Generator().manual_seed(0))


def parameters(ticket: Ticket) -> dict[str, torch.Tensor]:
    return {k: v for k, v in ticket.weights.items() if "running_" not in k and "num_batches" not in k}


def test_a_clean_process_without_training_code_predicts_the_same(ticket: Ticket, toy_run: Path, tmp_path: Path) -> None:
    images = inputs(ticket)
    np.save(tmp_path / "in.npy", images.numpy())
    words = [SOURCE, toy_run / "ticket", tmp_path / "in.npy", tmp_path / "out.npy"]
    done = subprocess.run(
        [sys.executable, "-c", _CLEAN_PROCESS, *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = ticket.module(images)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected.numpy())
    assert expected.std() > 0.01  # it is no constant


def test_saving_and_loading_changes_nothing(ticket: Ticket, tmp_path: Path) -> None:
    ticket.save_pretrained(tmp_path / "again")
    again = st.load(tmp_path / "again")
    assert again.spec == ticket.spec
    assert (again.classes, again.preprocessing) == (ticket.classes, ticket.preprocessing)
    assert dict(again.about) == dict(ticket.about)
    for mine, theirs in ((again.weights, ticket.weights), (again.mask, ticket.mask)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_run_directory_stands_for_its_ticket(ticket: Ticket, toy_run: Path) -> None:
    assert st.load(toy_run).cost == ticket.cost


def test_nothing_is_pickled(toy_run: Path) -> None:
    assert {path.name for path in (toy_run / "ticket").iterdir()} == FILES
    json.loads((toy_run / "ticket" / "config.json").read_text())
    for name in ("model.safetensors", "mask.safetensors"):
        raw = (toy_run / "ticket" / name).read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + size])
        spans = sorted(entry["data_offsets"] for key, entry in header.items() if key != "__metadata__")
        # Plain tensors, end to end, to the last byte of the file.
        assert [begin for begin, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == len(raw) - 8 - size


def test_exactly_the_asked_share_of_weights_is_zero(ticket: Ticket) -> None:
    ratio = ticket.about["recipe"]["prune"]["ratio"]
    assert set(ticket.mask) == set(ticket.spec.build().maskable_weights())
    total = sum(flags.numel() for flags in ticket.mask.values())
    zeros = sum(int((~flags).sum()) for flags in ticket.mask.values())
    assert zeros == round(ratio * total) > 0
    assert ticket.cost.sparsity == zeros / total
    for name, flags in ticket.mask.items():
        assert flags.shape == ticket.weights[name].shape
        assert not ticket.weights[name][~flags].any()
    alive = torch.cat([ticket.weights[name][flags] for name, flags in ticket.mask.items()])
    assert (alive != 0).float().mean() > 0.99


def test_the_run_removed_units_of_both_kinds(ticket: Ticket, toy_run: Path) -> None:
    """The other tests rely on this: the toy ticket is smaller than its supernet, in channels and tokens."""
    events = [json.loads(line) for line in (toy_run / "events.jsonl").read_text().splitlines()]
    removed = [e for e in events if e["event"] == "shrink"]
    for kind, left in (("channel", "channels"), ("token", "tokens")):
        count = sum(len(group) for group in ticket.spec.unit_groups() if group.kind == kind)
        full = sum(len(group) for group in ticket.spec.full().unit_groups() if group.kind == kind)
        assert 0 < count == full - sum(e[f"removed_{left}"] for e in removed) < full


def test_the_card_states_the_true_figures(ticket: Ticket, toy_run: Path) -> None:
    card = (toy_run / "ticket" / "README.md").read_text()
    params = sum(value.numel() for value in parameters(ticket).values())
    zeros = sum(int((~flags).sum()) for flags in ticket.mask.values())
    maskable = sum(flags.numel() for flags in ticket.mask.values())
    scores = evaluate_ticket(ticket)
    for true in (
        f"{params:,}, of which not zero {params - zeros:,}",
        f"{zeros / maskable:.2%} of maskable weights, {zeros / params:.2%} of all parameters",
        f"| test top1 | {scores['top1']:.4g} |",
        f"| test top5 | {scores['top5']:.4g} |",
        f"| test loss | {scores['loss']:.4g} |",
        f"| MACs, dense | {ticket.cost.macs:,} |",
        f"| MACs under the mask, per layer | {ticket.cost.masked_macs:,} |",
        f"| {round(ticket.cost.macs * (1 - zeros / maskable)):,} |",
        "| input | 1 x 8 x 8 |",
        "10 classes",
        "digits, seed 0",
        f"torch {torch.__version__}",
        f"| image-passes | {ticket.about['steps'] * 64:,} |",
    ):
        assert true in card
    assert json.loads((toy_run / "ticket" / "config.json").read_text())["cost"] == ticket.cost.to_json()


def test_the_scores_are_those_of_the_test_split(ticket: Ticket) -> None:
    splits = load_splits(recipe_from_json(ticket.about["recipe"]).data)
    for split, data in (("test", splits.test), ("validation", splits.validation)):
        scores = ticket.module(splits.preprocessing(data.images)).detach()
        hits = (scores.argmax(1) == data.labels).double().mean()
        assert ticket.about[split]["top1"] == pytest.approx(100 * float(hits))
        scores = evaluate_ticket(ticket, split=split)
        assert scores == pytest.approx(ticket.about[split], rel=1e-5)
    assert ticket.about["test"]["top1"] > 15  # better than chance, so that equal figures mean something


@pytest.mark.parametrize(
    ("name", "words", "task"),
    [
        ("digits", "--label_smoothing 0.1", Classification(("a", "b"), 0.1)),
        (
            "camvid",
            "--segmentation.average all --segmentation.window [64,80]",
            Segmentation(("a",), "all", (64, 80), balance=0.5),
        ),
        ("camvid", "--segmentation.window null", Segmentation(("a",), balance=0.5)),
        ("fashion_pose", "--pose.sigma 1.5 --pose.flip_test false", Pose(("a",), 1.5, False)),
    ],
)
def test_the_task_is_what_the_recipe_describes(name: str, words: str, task: Task) -> None:
    recipe = json.loads(json.dumps(st.load_recipe(name, words.split()).to_json()))
    assert find_task(recipe["task"]).from_recipe(task.classes, recipe) == task
    usual = find_task(task_name_of_head(task.head))  # of a ticket without a recipe
    assert usual.from_recipe(task.classes, {}) == type(task)(task.classes)


def test_images_in_memory_and_in_files_are_predicted_alike(ticket: Ticket, tmp_path: Path) -> None:
    test = load_splits(recipe_from_json(ticket.about["recipe"]).data).test
    image_list = [Image.fromarray(image[0].numpy()) for image in test.images[:12]]
    paths: list[str | Path] = []
    for i, pil_image in enumerate(image_list):
        paths.append(tmp_path / f"{i}.png")
        pil_image.save(paths[-1])
    predicted = ticket.predict(image_list)
    assert ticket.predict(paths) == predicted
    assert [name for name, _ in ticket.predict([str(paths[3])])[0]] == [name for name, _ in predicted[3]]
    shares = ticket.module(ticket.preprocessing(test.images[:12])).detach().softmax(1)
    for row, share in zip(predicted, shares, strict=True):
        assert len(row) == 5
        assert row[0][0] == ticket.classes[int(share.argmax())]
        assert [p for _, p in row] == sorted((p for _, p in row), reverse=True)
        assert [p for _, p in row] == pytest.approx([float(share[ticket.classes.index(name)]) for name, _ in row])


def test_a_network_elsewhere_is_a_copy(ticket: Ticket) -> None:
    assert ticket.module_on(torch.device("cpu")) is ticket.module
    elsewhere = ticket.module_on(torch.device("meta"))
    assert {value.device.type for value in elsewhere.state_dict().values()} == {"meta"}
    assert {value.device.type for value in ticket.module.state_dict().values()} == {"cpu"}


def test_one_input_gives_one_result_and_several_a_list(ticket: Ticket, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    image, path, colour = Image.fromarray(grey), tmp_path / "image.png", np.repeat(grey[:, :, None], 3, 2)
    image.save(path)
    (expected,) = ticket.predict([image])
    assert [len(entry) for entry in expected] == [2] * 5
    for one in (path, str(path), image, grey, colour):
        assert ticket.predict(one) == expected
    assert ticket.predict([path, grey]) == ticket.predict(iter((image, colour))) == [expected, expected]
    assert ticket.predict([]) == []


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (np.zeros((8, 8), np.float32), "float32 (8, 8)"),
        (np.zeros((8, 8, 4), np.uint8), "uint8 (8, 8, 4)"),
        (np.zeros(8, np.uint8), "uint8 (8,)"),
        ([5], "int"),
    ],
)
def test_an_input_that_is_no_image_is_named(ticket: Ticket, image: Any, kind: str) -> None:
    with pytest.raises(UserError) as error:
        ticket.predict(image)
    assert str(error.value).startswith(f"no image: {kind}. Give a path")


def test_tickets_are_equal_if_all_of_them_is(ticket: Ticket, toy_run: Path) -> None:
    again = st.load(toy_run)
    assert again == ticket
    assert hash(again) == hash(ticket)
    assert len({again, ticket}) == 1
    name = next(iter(ticket.mask))
    weights = {**ticket.weights, name: ticket.weights[name] + 1}
    mask = {**ticket.mask, name: ~ticket.mask[name]}
    others = [
        dataclasses.replace(ticket, weights=weights),
        dataclasses.replace(ticket, mask=mask),
        dataclasses.replace(ticket, mask={}),
        dataclasses.replace(ticket, about={**ticket.about, "samples": 0}),
        dataclasses.replace(ticket, classes=ticket.classes[::-1]),
        dataclasses.replace(ticket, spec=dataclasses.replace(ticket.spec, dropout=0.5)),
    ]
    assert all(other != ticket for other in others)
    assert ticket != "ticket"


def test_a_device_that_there_is_not_is_named(ticket: Ticket) -> None:
    image = Image.new("L", (8, 8))
    assert ticket.predict([image], device="cpu") == [ticket.predictor("cpu")(image, None)]
    for use in (lambda: ticket.predict([image], device="tpu"), lambda: evaluate_ticket(ticket, device="tpu")):
        with pytest.raises(UserError, match="device 'tpu'"):
            use()


def test_colour_and_large_images_are_made_to_fit(ticket: Ticket) -> None:
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (8, 8)).astype(np.uint8)
    colour = Image.fromarray(np.repeat(grey[:, :, None], 3, 2))
    assert torch.equal(ticket.prepare(colour), ticket.prepare(Image.fromarray(grey)))
    blocks = Image.fromarray(np.full((64, 48), 200, np.uint8))
    expected = ticket.preprocessing(torch.full((1, 1, 8, 8), 200, dtype=torch.uint8))
    assert torch.equal(ticket.prepare(blocks), expected)


def _broken_chunk(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    raw = path.read_bytes()
    second = raw.index(b"IDAT", raw.index(b"IDAT") + 4)
    path.write_bytes(raw[:second] + b"\1\2\3\4" + raw[second + 4 :])


def _truncated(path: Path) -> None:
    _broken_chunk(path)
    path.write_bytes(path.read_bytes()[:2000])


NOT_IMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "text": lambda path: path.write_text("not an image"),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "truncated": _truncated,
    "with a broken chunk": _broken_chunk,
}


@pytest.mark.parametrize("what", NOT_IMAGES)
def test_an_unreadable_image_is_named(ticket: Ticket, tmp_path: Path, what: str) -> None:
    path = tmp_path / "image.png"
    NOT_IMAGES[what](path)
    with pytest.raises(UserError) as error:
        ticket.predict([path])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def _config(change: Callable[[Any], object]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return harm


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return harm


def _flip(raw: bytes) -> bytes:
    return raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]


HARM: dict[str, Callable[[Path], object]] = {
    "config missing": lambda folder: (folder / "config.json").unlink(),
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "mask missing": lambda folder: (folder / "mask.safetensors").unlink(),
    "weights truncated": _bytes("model.safetensors", lambda raw: raw[:-100]),
    "weights empty": _bytes("model.safetensors", lambda raw: b""),
    "weights with a flipped bit": _bytes("model.safetensors", _flip),
    "mask truncated": _bytes("mask.safetensors", lambda raw: raw[:50]),
    "mask with a flipped bit": _bytes("mask.safetensors", _flip),
    "config truncated": _bytes("config.json", lambda raw: raw[:500]),
    "config empty": _bytes("config.json", lambda raw: b""),
    "config not text": _bytes("config.json", lambda raw: b"\xff\xfe\0"),
    "config a list": _bytes("config.json", lambda raw: b"[1, 2]"),
    "config without checksums": _config(lambda config: config.pop("sha256")),
    "config without preprocessing": _config(lambda config: config.update(preprocessing=None)),
    "config without classes": _config(lambda config: config.pop("classes")),
    "config without a spec": _config(lambda config: config.update(spec=None)),
    "spec of another family": _config(lambda config: config["spec"].update(family="mobile")),
    "spec with an unknown field": _config(lambda config: config["spec"].update(colour="red")),
    "spec without a field of its style": _config(lambda config: config["spec"].update(style=None)),
    "spec without a block": _config(lambda config: config["spec"]["units"].popitem()),
    "spec with a block of text": _config(lambda config: config["spec"]["units"]["s0_b0_0"].update(hidden=["a", "b"])),
    "spec of another network": _config(lambda config: config["spec"].update(last_channels=25)),
    "spec with other classes": _config(lambda config: config["spec"].update(num_classes=11)),
    "no recipe": _config(lambda config: config["about"].pop("recipe")),
    "nothing about it": _config(lambda config: config.update(about=None)),
}


@pytest.mark.parametrize("what", HARM)
def test_a_damaged_ticket_is_named(copy: Path, what: str) -> None:
    HARM[what](copy)
    with pytest.raises(UserError) as error:
        evaluate_ticket(st.load(copy))
    assert str(copy) in str(error.value) or "spec" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 1, 3, "two"])
def test_another_format_is_refused_with_the_way_out(copy: Path, version: object) -> None:
    harm = (lambda c: c.pop("format_version")) if version is None else lambda c: c.update(format_version=version)
    _config(harm)(copy)
    shown = 1 if version is None else version
    with pytest.raises(UserError) as error:
        st.load(copy)
    assert str(error.value) == (
        f"ticket {copy} has format {shown}, this version of supertickets reads format 2; "
        "use the version that wrote it, or draw it again"
    )


# Places in which a ticket may name code: the spec, and settings of its recipe.
CODE: dict[str, Callable[[Any, str], object]] = {
    "attention": lambda config, name: config.update(spec={"family": "resnet", "attention": name}),
    "task": lambda config, name: config["about"]["recipe"].update(task=name),
    "source": lambda config, name: config["about"]["recipe"]["data"].update(source=name),
    "supernet": lambda config, name: config["about"]["recipe"]["supernet"].update(name=name),
    "settings": lambda config, name: config["about"]["recipe"]["supernet"].update(settings={"a": [name]}),
    "criterion": lambda config, name: config["about"]["recipe"]["prune"].update(criterion=name),
    "reward": lambda config, name: config["about"]["recipe"]["policy"].update(reward=name),
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that appears if the module `strange_code`, beside the working directory, is imported."""
    marker = tmp_path / "marker"
    (tmp_path / "strange_code.py").write_text(f"open({str(marker)!r}, 'w')\nclass Name: pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "strange_code", raising=False)
    return marker


@pytest.mark.parametrize("place", CODE)
def test_code_that_a_ticket_names_is_not_imported(copy: Path, marker: Path, place: str) -> None:
    _config(lambda config: CODE[place](config, "strange_code:Name"))(copy)
    for trust in ((), ("strange_cod", "code", "strange_code.inside")):
        with pytest.raises(UserError) as error:
            st.load(copy, trust=trust)
        assert str(error.value) == (
            f"ticket {copy} names code to import: strange_code:Name. If you know what is in it, allow it with "
            '--trust strange_code (Python: trust=("strange_code",))'
        )
    assert not marker.exists()


def test_trust_lets_the_code_of_a_ticket_through(copy: Path, marker: Path) -> None:
    _config(lambda config: CODE["task"](config, "strange_code:Name"))(copy)
    with pytest.raises(UserError, match="task strange_code:Name is not a class of"):
        st.load(copy, trust=("strange_code",))
    assert marker.exists()


def test_the_command_line_imports_no_code_of_a_ticket(copy: Path, marker: Path) -> None:
    """``python -m`` puts the working directory in front of the path, where a stranger's folder may hold the module."""
    _config(lambda config: CODE["attention"](config, "strange_code:Name"))(copy)
    done = subprocess.run(
        [sys.executable, "-m", "supertickets", "show", str(copy)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "names code to import: strange_code:Name" in done.stderr
    assert "Traceback" not in done.stderr
    assert not marker.exists()


def test_a_missing_ticket_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", "nowhere", "runs/nowhere"):
        with pytest.raises(UserError, match="does not exist") as error:
            st.load(path)
        assert str(path) in str(error.value)


def test_a_failed_save_leaves_the_old_ticket_whole(
    ticket: Ticket, copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(self: Ticket) -> str:
        raise OSError("disk full")

    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    monkeypatch.setattr(Ticket, "card", fail)
    for folder in (copy, tmp_path / "new"):
        with pytest.raises(OSError, match="disk full"):
            ticket.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert not (tmp_path / "new").exists()
    monkeypatch.undo()
    ticket.save_pretrained(copy)  # what the failure left lying about is no obstacle
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_a_name_is_fetched_from_the_hub(toy_run: Path, ticket: Ticket, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def snapshot(name: str) -> str:
        asked.append(name)
        return str(toy_run / "ticket")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert st.load("someone/ticket").cost == ticket.cost
    assert asked == ["someone/ticket"]


def test_a_name_that_the_hub_does_not_know_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        # What huggingface_hub's own message looks like.
        raise OSError("404 Client Error.\n\nRepository Not Found for url: x.\nPlease make sure of the `repo_id`.")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unknown)
    with pytest.raises(UserError, match="someone/nothing") as error:
        st.load("someone/nothing")
    assert "\n" not in str(error.value)


def test_a_path_that_can_be_no_name_on_the_hub_is_missing() -> None:
    with pytest.raises(UserError, match=r"my runs/ticket no\. 3"):
        st.load("my runs/ticket no. 3")


def test_a_folder_with_something_else_is_never_replaced(ticket: Ticket, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="is no ticket"):
        ticket.save_pretrained(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    ticket.save_pretrained(tmp_path / "empty")
    ticket.save_pretrained(tmp_path / "empty")  # a ticket may be replaced
